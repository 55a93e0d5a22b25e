package drive

import (
	"runtime"
	"sync"

	"github.com/nyxnet/nyx/internal/machine"
)

// Workers runs the jobs of one or several hosts on a bounded number of
// goroutines, first come, first served. The goroutines exist only while there
// are jobs. The number of waiting jobs is bounded by the hosts, which hand in
// no more than jobsMax each.
type Workers struct {
	max int

	mu      sync.Mutex
	running int
	queue   []task // waiting, oldest first from head on
	head    int
}

type task struct {
	host *Host
	job  machine.Job
}

// NewWorkers returns a pool of at most max goroutines; 0 is one for each
// processor.
func NewWorkers(max int) *Workers {
	if max <= 0 {
		max = runtime.GOMAXPROCS(0)
	}
	return &Workers{max: max}
}

func (w *Workers) submit(t task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == w.max {
		w.queue = append(w.queue, t)
		return
	}
	w.running++
	go w.work(t)
}

func (w *Workers) work(t task) {
	for {
		t.job.Run()
		host := t.host
		next, more := w.next()
		// Last, because a host that closes waits for its jobs: by then this
		// goroutine has nothing of it any more.
		host.jobDone(t.job)
		if !more {
			return
		}
		t = next
	}
}

// next takes the oldest waiting task, or gives up the goroutine's place.
func (w *Workers) next() (task, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
		w.running--
		return task{}, false
	}
	t := w.queue[w.head]
	w.queue[w.head] = task{}
	w.head++
	if w.head*2 >= len(w.queue) {
		w.queue = w.queue[:copy(w.queue, w.queue[w.head:])]
		w.head = 0
	}
	return t, true
}
