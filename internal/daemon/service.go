package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// descriptorKeepers is how many Stream nodes keep one descriptor.
	descriptorKeepers = 3
	// descriptorLife is how long a descriptor is good, and publishEvery how
	// often a new one is laid down; it is looked every publishLook whether the
	// meetings have changed.
	descriptorLife = 3 * time.Hour
	publishEvery   = time.Hour
	publishLook    = 500 * time.Millisecond
	// publishAgain is when keepers that did not take it are tried again. When
	// none did, all are tried sooner: after publishSoon, then at doubling
	// distance up to this.
	publishAgain = time.Minute
	publishSoon  = time.Second
	// acceptMax bounds the streams that wait for Accept.
	acceptMax = 128
	// requestTimeout bounds the wait for an incoming stream's request.
	requestTimeout = 30 * time.Second
)

// Listener accepts streams to a service. It is a net.Listener.
type Listener struct {
	client    *Client
	key       *service.Key
	address   service.Address
	draw      *prng.Stream
	accepted  chan net.Conn
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup
	published chan struct{}
	once      sync.Once
}

// Listen offers a service under a key. It returns at once; Published is closed
// when callers can find the service.
func (c *Client) Listen(k *service.Key) (*Listener, error) {
	var err error
	if !c.host.Do(func(now machine.Time) { err = c.core.Host(now, k) }) {
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	l := &Listener{
		client: c, key: k, address: k.Address(), draw: systemEntropy().Stream("descriptors"),
		accepted: make(chan net.Conn, acceptMax), published: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	c.listeners[l.address] = l
	c.mu.Unlock()
	l.running.Add(1)
	go func() { defer l.running.Done(); l.keepPublished() }()
	return l, nil
}

// Accept waits for the next stream.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	case <-l.client.Done():
		return nil, net.ErrClosed
	}
}

// Addr is the service's address.
func (l *Listener) Addr() net.Addr { return serviceAddr(l.address.String()) }

type serviceAddr string

func (serviceAddr) Network() string  { return "nyx" }
func (a serviceAddr) String() string { return string(a) }

// Published is closed when the first descriptor lies where callers look.
func (l *Listener) Published() <-chan struct{} { return l.published }

// Close withdraws the service. Accepted connections go on.
func (l *Listener) Close() error {
	l.cancel()
	l.client.mu.Lock()
	delete(l.client.listeners, l.address)
	l.client.mu.Unlock()
	l.client.host.Do(func(now machine.Time) { l.client.core.Withdraw(now, l.address) })
	l.running.Wait()
	for { // nobody accepts these any more
		select {
		case c := <-l.accepted:
			c.Close()
		default:
			return nil
		}
	}
}

// keepPublished lays down a descriptor whenever one is due.
func (l *Listener) keepPublished() {
	look := time.NewTicker(publishLook)
	defer look.Stop()
	var plan publishPlan
	for {
		var meetings []service.Meeting
		l.client.host.Do(func(machine.Time) { meetings = l.client.core.Meetings(l.address) })
		if now := time.Now(); plan.due(now, meetings) {
			missed, err := l.publish(now, meetings)
			plan.done(now, meetings, missed, err)
		}
		select {
		case <-l.ctx.Done():
			return
		case <-l.client.Done():
			return
		case <-look.C:
		}
	}
}

// publishPlan is when a service's descriptor is laid down: when the meetings
// change, when a period begins, and before the last one ends; and again where
// keepers did not take it. The zero publishPlan has one due.
type publishPlan struct {
	said   []service.Meeting // in the descriptor that lies there
	period uint64            // that it was laid down in
	at     time.Time         // of the last attempt
	missed int               // keepers that do not have it yet
	failed int               // attempts in a row that no keeper took
}

func (p *publishPlan) due(now time.Time, meetings []service.Meeting) bool {
	since := now.Sub(p.at)
	switch {
	case len(meetings) == 0:
		return false
	case p.failed > 0: // each attempt may cost work at every keeper
		return since >= min(publishSoon<<min(p.failed-1, 6), publishAgain)
	}
	return !slices.Equal(meetings, p.said) || service.Period(now.Unix()) != p.period || since > publishEvery ||
		p.missed > 0 && since > publishAgain
}

// done notes the outcome of an attempt that began at now.
func (p *publishPlan) done(now time.Time, meetings []service.Meeting, missed int, err error) {
	p.at = now
	if err != nil {
		p.failed++
		return
	}
	p.said, p.period, p.missed, p.failed = meetings, service.Period(now.Unix()), missed, 0
}

// publish lays the descriptor down under this period's index and the next's, at
// every keeper at once, so that one that is down holds nobody up. It reports
// how many did not take it; an error means that callers cannot find the service
// now.
func (l *Listener) publish(now time.Time, meetings []service.Meeting) (missed int, err error) {
	d := &service.Descriptor{Sequence: uint64(now.Unix()), Expires: now.Add(descriptorLife).Unix(), Meetings: meetings}
	type result struct {
		period uint64
		err    error
	}
	results := make(chan result, 2*descriptorKeepers)
	asked, current := 0, service.Period(now.Unix())
	for _, period := range []uint64{current, current + 1} {
		sealed, err := service.Seal(l.key, d, period, l.draw.Uint64())
		if err != nil {
			return 0, err
		}
		for _, node := range l.client.keepers(l.address.Index(period)) {
			asked++
			go func() { results <- result{period, l.put(l.ctx, node, period, sealed)} }()
		}
	}
	err = fmt.Errorf("no node keeps the descriptor: %w", client.ErrNoMeeting)
	found := false
	for range asked {
		switch r := <-results; {
		case r.err != nil:
			if missed++; !found {
				err = fmt.Errorf("no node keeps the descriptor: %w", r.err)
			}
		case r.period == current:
			found, err = true, nil
			l.once.Do(func() { close(l.published) })
		}
	}
	return missed, err
}

func (c *Client) keepers(ix service.Index) (ids []wire.NodeID) {
	c.host.Do(func(machine.Time) { ids = c.core.Keepers(ix, descriptorKeepers) })
	return ids
}

// lookupStagger is how long a keeper may think before the next is asked too.
const lookupStagger = 2 * time.Second

// lookup fetches a service's descriptor from the first keeper that has a
// genuine one.
func (c *Client) lookup(ctx context.Context, isolation string, a service.Address) (*service.Descriptor, error) {
	now := time.Now().Unix()
	period := service.Period(now)
	ix := a.Index(period)
	d, err := inTurn(ctx, c.keepers(ix), func(ctx context.Context, node wire.NodeID) (*service.Descriptor, error) {
		sealed, err := c.getDescriptor(ctx, isolation, node, ix)
		if err != nil {
			return nil, err
		}
		d, _ := service.Open(a, sealed, period, now)
		return d, nil
	})
	switch {
	case d != nil:
		return d, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", proxy.ErrNetworkDown, err)
	}
	return nil, fmt.Errorf("%w: no service under this address", proxy.ErrHostUnreachable)
}

// inTurn asks keepers one by one, the next when one has nothing or is slow: one
// that is down, or lies, costs a moment. It returns the first descriptor that
// comes, or else the last error.
func inTurn(ctx context.Context, nodes []wire.NodeID,
	ask func(context.Context, wire.NodeID) (*service.Descriptor, error)) (*service.Descriptor, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		d   *service.Descriptor
		err error
	}
	results := make(chan result, len(nodes))
	var failed error
	next := time.NewTimer(0)
	defer next.Stop()
	for asked, answered := 0, 0; answered < len(nodes); {
		select {
		case <-next.C:
			if asked < len(nodes) {
				node := nodes[asked]
				go func() {
					d, err := ask(ctx, node)
					results <- result{d, err}
				}()
				asked++
				next.Reset(lookupStagger)
			}
		case r := <-results:
			if answered++; r.d != nil {
				return r.d, nil
			}
			if r.err != nil {
				failed = r.err
			}
			next.Reset(0)
		}
	}
	return nil, failed
}

// dialService opens a stream to a service inside the network. Where nobody answers at
// the meeting points of a descriptor that is remembered, they may have changed: it is
// fetched anew, once.
func (c *Client) dialService(ctx context.Context, isolation string, a service.Address, t wire.Target) (*tunnel.Conn, error) {
	c.mu.Lock()
	d := c.services[a]
	c.mu.Unlock()
	if d != nil && d.Expires >= time.Now().Unix() {
		conn, err := c.call(ctx, isolation, d, t)
		if !errors.Is(err, proxy.ErrNetworkDown) || ctx.Err() != nil {
			return conn, err
		}
	}
	d, err := c.lookup(ctx, isolation, a)
	if err != nil {
		return nil, err
	}
	c.remember(d)
	return c.call(ctx, isolation, d, t)
}

// call opens a stream by a descriptor, which is forgotten if that fails.
func (c *Client) call(ctx context.Context, isolation string, d *service.Descriptor, t wire.Target) (*tunnel.Conn, error) {
	conn, err := c.open(ctx, func(now machine.Time) (session.Ref, error) { return c.core.Call(now, isolation, d, t) })
	if err != nil {
		c.mu.Lock()
		delete(c.services, d.Address)
		c.mu.Unlock()
	}
	return conn, err
}

// servicesMax bounds the descriptors that a client remembers.
const servicesMax = 256

func (c *Client) remember(d *service.Descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.services) >= servicesMax {
		clear(c.services)
	}
	c.services[d.Address] = d
}

// incoming takes a stream that a caller of one of our services opened. The
// host's lock is held.
func (c *Client) incoming(conn *tunnel.Conn) {
	a, ok := c.core.ServiceOf(conn.Ref())
	c.mu.Lock()
	l := c.listeners[a]
	c.mu.Unlock()
	if !ok || l == nil || l.ctx.Err() != nil {
		go conn.Reset()
		return
	}
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		l.take(conn)
	}()
}

// take reads the request of an incoming stream and hands it to Accept.
func (l *Listener) take(conn *tunnel.Conn) {
	conn.SetReadDeadline(time.Now().Add(requestTimeout))
	stop := context.AfterFunc(l.ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	t, err := readRequest(conn)
	if err != nil || t.Network != wire.TCP {
		conn.Reset()
		return
	}
	conn.SetReadDeadline(time.Time{})
	if _, err := conn.Write([]byte{byte(wire.StatusOK)}); err != nil {
		conn.Reset()
		return
	}
	select {
	case l.accepted <- conn:
	case <-l.ctx.Done():
		conn.Reset()
	}
}

// readRequest reads exactly a stream's request.
func readRequest(r io.Reader) (wire.Target, error) {
	var buf [wire.TargetSizeMax]byte
	for n := 0; n < len(buf); n++ {
		if _, err := io.ReadFull(r, buf[n:n+1]); err != nil {
			return wire.Target{}, err
		}
		t, used, ok := wire.ParseTarget(buf[:n+1])
		if !ok {
			break
		}
		if used > 0 {
			return t, nil
		}
	}
	return wire.Target{}, errors.New("malformed request")
}
