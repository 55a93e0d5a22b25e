package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/wire"
)

// The Stream node that is measured is a process of its own, whose resident
// memory is its own as well: this program once more, which finds idleNodeEnv
// set. It is asked on its standard input and answers on its standard output: an
// idleAsk and datagrams, an idleAnswer and datagrams, each datagram after its
// address.
const idleNodeEnv = "NYX_BENCH_IDLE_NODE"

// idleStrangers is far below the number of sessions: a node that took admitted
// clients for strangers would lose most of them.
const idleStrangers = 64

// idleAsk is how far the time has come and what arrives then. When asked to
// measure, the node does nothing else.
type idleAsk struct {
	Now       int64
	Datagrams uint32
	Measure   bool
}

// idleAnswer is what the node sends, and how it stands.
type idleAnswer struct {
	Next            int64 // timer
	CPU             int64 // of the process, ns
	Sessions, Links uint32
	Datagrams       uint32
	// When asked to measure, in bytes, when what is free has been given back.
	Memory idleMemory
}

// idleProcess is the Stream node as the clients' process sees it.
type idleProcess struct {
	cmd  *exec.Cmd
	in   *bufio.Writer
	pipe io.Closer
	out  *bufio.Reader
	next machine.Time
	last idleAnswer
}

func startIdleProcess(ctx context.Context) (*idleProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &idleProcess{cmd: exec.CommandContext(ctx, self, "bench", "idle"), next: machine.Never}
	p.cmd.Env = append(os.Environ(), idleNodeEnv+"=1")
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.pipe, p.in, p.out = in, bufio.NewWriterSize(in, 1<<18), bufio.NewReaderSize(out, 1<<18)
	return p, p.cmd.Start()
}

// stop ends the process.
func (p *idleProcess) stop() {
	p.pipe.Close()
	p.cmd.Wait()
}

// exchange gives the node the time and what waits for it, and takes what it
// sends.
func (p *idleProcess) exchange(w *idleWorld) error {
	err := p.ask(w, idleAsk{Now: int64(w.now), Datagrams: uint32(len(w.toGate))})
	if err != nil {
		return fmt.Errorf("the Stream node's process: %w", err)
	}
	w.toGate = w.recycle(w.toGate)
	w.gateDatagrams += uint64(p.last.Datagrams)
	for range p.last.Datagrams {
		m := idleMail{from: w.addrs[idleGate], b: w.buffer()}
		if m.to, err = readDatagram(p.out, m.b); err != nil {
			return err
		}
		w.route(m)
	}
	return nil
}

// measure asks for the memory of the process, which has nothing else to do.
func (p *idleProcess) measure(w *idleWorld) (idleAnswer, error) {
	if len(w.toGate) > 0 {
		return idleAnswer{}, errors.New("datagrams wait for the Stream node")
	}
	err := p.ask(w, idleAsk{Now: int64(w.now), Measure: true})
	return p.last, err
}

func (p *idleProcess) ask(w *idleWorld, a idleAsk) error {
	binary.Write(p.in, binary.BigEndian, a) // an error stays until Flush
	for _, m := range w.toGate {
		writeDatagram(p.in, m.from, m.b)
	}
	if err := p.in.Flush(); err != nil {
		return err
	}
	err := binary.Read(p.out, binary.BigEndian, &p.last)
	p.next = machine.Time(p.last.Next)
	return err
}

// writeDatagram writes one datagram of an IPv4 address; an error stays until
// Flush.
func writeDatagram(to *bufio.Writer, addr netip.AddrPort, b *[wire.DatagramSize]byte) {
	ip := addr.Addr().As4()
	to.Write(ip[:])
	to.Write(binary.BigEndian.AppendUint16(nil, addr.Port()))
	to.Write(b[:])
}

func readDatagram(from *bufio.Reader, b *[wire.DatagramSize]byte) (netip.AddrPort, error) {
	var addr [6]byte
	if _, err := io.ReadFull(from, addr[:]); err != nil {
		return netip.AddrPort{}, err
	}
	_, err := io.ReadFull(from, b[:])
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), binary.BigEndian.Uint16(addr[4:])), err
}

// idleNode is the Stream node inside its process.
type idleNode struct {
	gate *gateway.Gateway
	in   *bufio.Reader
	out  *bufio.Writer
	sent []idleMail // to be written after the answer
}

// serveIdleNode is the Stream node's process.
func serveIdleNode(in io.Reader, out io.Writer) error {
	w := &idleWorld{rng: prng.FromUint64(1), keys: map[wire.NodeID]*seal.KEMPrivate{}, addrs: map[wire.NodeID]netip.AddrPort{}}
	if err := w.addNodes(); err != nil {
		return err
	}
	cfg := w.node(idleGate)
	cfg.StrangersMax = idleStrangers
	n := &idleNode{
		gate: gateway.New(gateway.Config{Hop: cfg, Policy: control.Policy{Lifetime: 24 * time.Hour}, Fleet: &seal.Key{}}, w.rng.Child("gate")),
		in:   bufio.NewReaderSize(in, 1<<18),
		out:  bufio.NewWriterSize(out, 1<<18),
	}
	for {
		var ask idleAsk
		if err := binary.Read(n.in, binary.BigEndian, &ask); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := n.serve(&ask); err != nil {
			return err
		}
	}
}

func (n *idleNode) serve(ask *idleAsk) error {
	g, now := n.gate, machine.Time(ask.Now)
	if ask.Measure {
		a := n.answer()
		a.Memory = settledMemory()
		binary.Write(n.out, binary.BigEndian, a)
		return n.out.Flush()
	}
	g.HandleTimer(now)
	var b [wire.DatagramSize]byte
	for range ask.Datagrams {
		from, err := readDatagram(n.in, &b)
		if err != nil {
			return err
		}
		g.HandleDatagram(now, from, b[:])
	}
	sent := n.work(now)
	a := n.answer()
	a.Datagrams = uint32(sent)
	binary.Write(n.out, binary.BigEndian, a)
	for _, m := range n.sent[:sent] {
		writeDatagram(n.out, m.to, m.b)
	}
	return n.out.Flush()
}

// answer says how the node stands.
func (n *idleNode) answer() idleAnswer {
	return idleAnswer{
		Next: int64(n.gate.NextTimer()), CPU: int64(cpuTime()),
		Sessions: uint32(n.gate.Len()), Links: uint32(n.gate.Links.Links()),
	}
}

// work runs jobs, reads what came on streams, and returns how many datagrams
// leave.
func (n *idleNode) work(now machine.Time) (sent int) {
	g := n.gate
	for j, ok := g.PollJob(); ok; j, ok = g.PollJob() {
		j.Run()
		g.HandleJob(now, j)
	}
	for _, ok := g.Table.PollReplay(); ok; _, ok = g.Table.PollReplay() {
	}
	for {
		for ev, ok := g.PollEvent(); ok; ev, ok = g.PollEvent() {
			if ev.Kind == session.Opened || ev.Kind == session.Readable {
				var b [64]byte
				g.Read(now, ev.Ref, b[:])
			}
		}
		if sent == len(n.sent) {
			n.sent = append(n.sent, idleMail{b: new([wire.DatagramSize]byte)})
		}
		m := &n.sent[sent]
		var ok bool
		if m.to, _, ok = g.PollTransmit(now, m.b[:]); !ok {
			return sent
		}
		sent++
	}
}

// idleMemory is the memory of the node's process: its live heap, what is
// resident, the process's own part of that, and the most that was resident.
type idleMemory struct{ Heap, Resident, Own, Peak uint64 }

// settledMemory is the memory of this process when it has given back what it does
// not use, as any node does in its time.
func settledMemory() (a idleMemory) {
	daemon.TrimMemory()
	a.Resident, a.Own, a.Peak = residentBytes()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	a.Heap = m.HeapAlloc
	return a
}
