package secret_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/secret/secrettest"
)

// refusing is a store that gives one secret to nobody, and is away for another.
type refusing struct{ secret.Store }

var errAway = errors.New("away")

func (s *refusing) Get(ctx context.Context, name string, version uint64) (secret.Secret, error) {
	switch name {
	case "a/refused":
		return secret.Secret{}, fmt.Errorf("secret %s: %w", name, secret.ErrRefused)
	case "a/away":
		return secret.Secret{}, errAway
	}
	return s.Store.Get(ctx, name, version)
}

// A recorded store is a store.
func TestRecordedIsAStore(t *testing.T) {
	secrettest.Run(t, &secret.Recorded{Store: secret.NewMemory(), Record: func(context.Context, secret.Event) error { return nil }}, nil)
}

// Each change and each refusal is an event, with the name and the version; reads that
// succeed, a store that is away, and who comes second are none.
func TestWhatIsRecorded(t *testing.T) {
	var events []string
	s := &secret.Recorded{Store: &refusing{secret.NewMemory()}, Record: func(_ context.Context, e secret.Event) error {
		events = append(events, fmt.Sprint(e.Action, " ", e.Name, " ", e.Version, " ", e.Err == nil))
		return nil
	}}
	ctx := t.Context()
	secrettest.Put(t, s, "a/key", "planted value", 0)
	secrettest.Put(t, s, "a/key", "planted value 2", 1)
	if _, err := s.Put(ctx, "a/key", []byte("late"), 1); !errors.Is(err, secret.ErrChanged) {
		t.Fatal(err)
	}
	secrettest.Want(t, s, "a/key", 0, "planted value 2")
	for _, name := range []string{"a/none", "a/away", "a/refused"} {
		if _, err := s.Get(ctx, name, 0); err == nil {
			t.Fatalf("%s is given", name)
		}
	}
	if err := errors.Join(s.Destroy(ctx, "a/key", 2), s.Delete(ctx, "a/key")); err != nil {
		t.Fatal(err)
	}
	want := "put a/key 1 true\nrotate a/key 2 true\nrefused a/refused 0 false\ndestroy a/key 2 true\ndelete a/key 0 true"
	if got := strings.Join(events, "\n"); got != want {
		t.Errorf("recorded:\n%s\nwant:\n%s", got, want)
	}
}

// A change that cannot be recorded is an error.
func TestUnrecordedIsAnError(t *testing.T) {
	full := errors.New("the disk is full")
	s := &secret.Recorded{Store: secret.NewMemory(), Record: func(context.Context, secret.Event) error { return full }}
	if _, err := s.Put(t.Context(), "a/key", []byte("x"), 0); !errors.Is(err, full) {
		t.Errorf("put: %v", err)
	}
	if err := s.Delete(t.Context(), "a/key"); !errors.Is(err, full) {
		t.Errorf("delete: %v", err)
	}
}
