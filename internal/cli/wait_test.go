package cli

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Who waits for a network hears why, each reason once, and goes on waiting.
func TestWaitingTellsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		wait := func(ctx context.Context) error {
			switch passed := time.Since(began); {
			case passed < 35*time.Second:
				<-ctx.Done()
				return errors.New("no directory answers")
			case passed < 65*time.Second:
				<-ctx.Done()
				return errors.New("the network has a key")
			}
			return nil
		}
		var told []string
		if err := waitReady(t.Context(), wait, func(why error) { told = append(told, why.Error()) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, []string{"no directory answers", "the network has a key"}) {
			t.Errorf("told %q", told)
		}
	})
}

// A client that stops, or a user who interrupts, ends the waiting.
func TestWaitingEnds(t *testing.T) {
	stopped := errors.New("stopped")
	if err := waitReady(t.Context(), func(context.Context) error { return stopped }, nil); err != stopped {
		t.Errorf("a client that stopped: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := waitReady(ctx, func(ctx context.Context) error { return ctx.Err() }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt: %v", err)
	}
}
