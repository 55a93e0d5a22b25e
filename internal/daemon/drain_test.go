package daemon

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/setup"
)

// A node that is told to stop says so in the directory first, and serves on until
// its time is over or it is told again. Control: without a time it stops at once, and
// the directory says nothing.
func TestANodeThatIsToldToStopLeavesFirst(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after all others
	files, _ := initNetwork(t)
	others, stop := context.WithCancel(t.Context())
	ended := make(chan error, len(files))
	defer func() {
		stop()
		for range files {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	leaving := map[int]time.Duration{len(files) - 2: time.Hour, len(files) - 1: 0} // two mixes
	told := map[int]func(){}
	journals := map[int]*journal{}
	gone := map[int]chan struct{}{}
	for i, file := range files {
		cfg, err := setup.LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Poll = time.Second
		ctx, tell := others, func() {}
		if d, ok := leaving[i]; ok {
			cfg.Relay.Drain = d
			ctx, tell = context.WithCancel(t.Context())
		}
		j, log := newJournal()
		journals[i], told[i], gone[i] = j, tell, make(chan struct{})
		go func() {
			err := Run(ctx, cfg, nil, nil, testServers, log)
			close(gone[i])
			ended <- err
		}()
	}
	for i := range leaving {
		defer told[i]()
		journals[i].await(t, "the node works fully")
	}
	drains, stops := len(files)-2, len(files)-1
	told[stops]()
	<-gone[stops]
	if strings.Contains(journals[stops].String(), "leaves") {
		t.Error("control: a node without a time to leave in says that it leaves")
	}
	told[drains]()
	journals[drains].await(t, "the directory says that this node leaves")
	select {
	case <-gone[drains]:
		t.Error("the node stopped before its time was over")
	default:
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-gone[drains]
}
