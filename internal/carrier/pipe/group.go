package pipe

import "sync"

// Group holds the pipes of a server. The zero Group is ready.
type Group struct {
	mu      sync.Mutex
	closed  bool
	pipes   map[Pipe]struct{}
	running sync.WaitGroup
}

// Serve calls accept with p and returns when that has returned. It closes p
// instead if the group is closed.
func (g *Group) Serve(p Pipe, accept func(Pipe)) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		p.Close()
		return
	}
	if g.pipes == nil {
		g.pipes = make(map[Pipe]struct{})
	}
	g.pipes[p] = struct{}{}
	g.running.Add(1)
	g.mu.Unlock()
	accept(p)
	g.mu.Lock()
	delete(g.pipes, p)
	g.mu.Unlock()
	g.running.Done()
}

// Close closes every pipe, also those that come later, and waits until nobody
// serves one.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	for p := range g.pipes {
		go p.Close() // it may wait for one of this pipe's goroutines
	}
	g.mu.Unlock()
	g.running.Wait()
}
