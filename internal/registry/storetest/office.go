package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/nyxnet/nyx/internal/registry"
)

// RunOffice tests that one of two processes has an office, and the other after it.
func RunOffice(t *testing.T, one, two registry.Office) {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if who, err := one.Holder(ctx, "test"); who != "" || err != nil {
		t.Fatalf("held by %q, %v", who, err)
	}
	began, ended := make(chan string, 2), make(chan error, 2)
	holds := func(o registry.Office, who string) (give context.CancelFunc) {
		ctx, give := context.WithCancel(ctx)
		go func() {
			ended <- o.Hold(ctx, "test", who, func(term context.Context) {
				began <- who
				<-term.Done()
			})
		}()
		return give
	}
	giveOne := holds(one, "one")
	if who := <-began; who != "one" {
		t.Fatalf("%s has the office", who)
	}
	giveTwo := holds(two, "two")
	if who, err := two.Holder(ctx, "test"); who != "one" || err != nil || len(began) != 0 {
		t.Errorf("held by %q, %v", who, err)
	}
	giveOne()
	if who := <-began; who != "two" {
		t.Errorf("%s has the office after it was given up", who)
	}
	giveTwo()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("a term ended with %v", err)
		}
	}
	if who, err := one.Holder(ctx, "test"); who != "" || err != nil {
		t.Errorf("held by %q at the end, %v", who, err)
	}
}
