package joint

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/machine"
)

// dialMax bounds the dial of one kind: some round trips, and little enough that
// all kinds are tried while a link's dial goes on.
const dialMax = 2500 * time.Millisecond

// Client is a client's carrier.
type Client struct {
	merged
	kinds   []Kind
	use     Use
	start   time.Time
	now     machine.Time // when the last Read returned
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // dials and served connections

	mu      sync.Mutex
	entries map[netip.AddrPort]*entry
	closed  bool
}

// entry is one entry as its carriers see it. Client.mu guards it.
type entry struct {
	choice choice
	doors  []front.Door // in the order of Client.kinds
	first  int          // the door to try first
	conn   *pipe.Conn
}

// NewClient puts connections of some kinds beside base, which it owns.
func NewClient(base Carrier, use Use, kinds []Kind) *Client {
	c := &Client{merged: newMerged(base), kinds: kinds, use: use, start: time.Now(), entries: make(map[netip.AddrPort]*entry)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// SetDoors says which doors the entries have, by their UDP addresses. Those
// that are not named any more lose theirs; what is open stays open.
func (c *Client) SetDoors(doors map[netip.AddrPort][]front.Door) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, e := range c.entries {
		if _, ok := doors[at]; !ok {
			e.doors = nil
		}
	}
	for at, list := range doors {
		var sorted []front.Door
		for _, k := range c.kinds {
			for _, d := range list {
				if d.Kind == k.Kind {
					sorted = append(sorted, d)
				}
			}
		}
		e := c.entries[at]
		switch {
		case e == nil && len(sorted) > 0:
			c.entries[at] = &entry{choice: choice{only: c.use == Only}, doors: sorted}
		case e != nil && !sameDoors(e.doors, sorted): // equal ones keep their tickets
			e.doors, e.first = sorted, 0
		}
	}
}

func sameDoors(a, b []front.Door) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Same(&b[i]) {
			return false
		}
	}
	return true
}

// Read takes what has arrived either way.
func (c *Client) Read(wait time.Duration) (int, error) {
	n, err := c.merged.Read(wait)
	c.now = c.clock()
	return n, err
}

func (c *Client) clock() machine.Time { return machine.Time(time.Since(c.start)) }

// At returns datagram i of the last Read, from the entry's UDP address however
// it came.
func (c *Client) At(i int) ([]byte, netip.AddrPort) {
	b, from, by := c.at(i)
	c.mu.Lock()
	if e := c.entries[from]; e != nil {
		e.choice.heard(c.now, by)
	}
	c.mu.Unlock()
	return b, from
}

// Commit adds the first n bytes of what Next returned to the batch, for the way
// that is in use for this entry.
func (c *Client) Commit(n int, to netip.AddrPort) {
	c.mu.Lock()
	e := c.entries[to]
	if e == nil {
		c.mu.Unlock()
		if c.use != Only {
			c.base.Commit(n, to)
		}
		return
	}
	by, do := byUDP, nothing
	if len(e.doors) > 0 || e.conn != nil || c.use == Only {
		by, do = e.choice.send(c.now)
	}
	conn := e.conn
	switch do {
	case dial:
		c.dial(to, e)
	case redial:
		e.first = (e.first + 1) % max(len(e.doors), 1)
		c.dial(to, e)
	}
	if do == hangUp || do == redial {
		e.conn = nil
		c.running.Go(conn.Close)
	}
	c.mu.Unlock()
	switch {
	case by == byUDP:
		c.base.Commit(n, to)
	case by == byConn && conn != nil:
		c.hold(conn, n)
	}
}

// dial tries the entry's doors in turn, in a goroutine. c.mu is held.
func (c *Client) dial(at netip.AddrPort, e *entry) {
	if c.closed {
		return
	}
	doors, first := e.doors, e.first
	c.running.Go(func() {
		for i := range doors {
			i = (first + i) % len(doors)
			if p := c.open(&doors[i]); p != nil {
				c.serve(at, e, i, p)
				return
			}
		}
		c.mu.Lock()
		e.choice.dialled(c.clock(), false)
		c.mu.Unlock()
	})
}

func (c *Client) open(d *front.Door) pipe.Pipe {
	ctx, cancel := context.WithTimeout(c.ctx, dialMax)
	defer cancel()
	for _, k := range c.kinds {
		if k.Kind == d.Kind {
			if p, err := k.Dial(ctx, d); err == nil {
				return p
			}
		}
	}
	return nil
}

// serve puts a connection into use until it ends.
func (c *Client) serve(at netip.AddrPort, e *entry, door int, p pipe.Pipe) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		p.Close()
		return
	}
	conn := pipe.Run(p, func(b []byte) { c.put(b, at) })
	e.conn, e.first = conn, door
	e.choice.dialled(c.clock(), true)
	c.mu.Unlock()
	<-conn.Done()
	c.mu.Lock()
	if e.conn == conn {
		e.conn = nil
		e.choice.lost()
	}
	c.mu.Unlock()
	conn.Close()
}

// FellBack reports whether datagrams to an entry go by a connection.
func (c *Client) FellBack() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		if e.choice.onConn {
			return true
		}
	}
	return false
}

// Close sends what waits, closes the connections, then the base.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	var conns []*pipe.Conn
	for _, e := range c.entries {
		if e.conn != nil {
			conns = append(conns, e.conn)
		}
	}
	c.mu.Unlock()
	c.cancel()
	closeAll(conns)
	c.running.Wait()
	return c.base.Close()
}
