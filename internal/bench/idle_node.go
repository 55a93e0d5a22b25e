package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/wire"
)

// The Stream node that is measured is a process of its own, whose resident
// memory is its own as well: this program once more, which finds idleNodeEnv
// set. It is asked on its standard input and answers on its standard output: an
// idleAsk and datagrams, an idleAnswer and datagrams, as an idleBag holds them.
const idleNodeEnv = "NYX_BENCH_IDLE_NODE"

// idleStrangers is far below the number of sessions: a node that took admitted
// clients for strangers would lose most of them.
const idleStrangers = 1024

// idleSetups is the bound of set-ups and link handshakes a second at the node that
// is measured, which has more of them to do in virtual time than a default allows.
const idleSetups = 20_000

// idleAsk is how far the time has come and what arrives then. When asked to
// measure, the node does nothing else.
type idleAsk struct {
	Now       int64
	Datagrams uint32
	Measure   bool
}

// idleAnswer is what the node sends, and how it stands.
type idleAnswer struct {
	CPU             int64 // of the process, ns
	Sessions, Links uint32
	Datagrams       uint32
	// When asked to measure.
	Memory idleMemory
}

// idleMemory is the memory of the node's process, in bytes: its live heap, what is
// resident, the process's own part of that, and the most that was resident; and
// what a collection takes, in ns: from its begin to its end, of CPU, and the
// longest time for which it stopped the program.
type idleMemory struct {
	Heap, Resident, Own, Peak uint64
	Cycle, CycleCPU, Pause    int64
	Collections               uint32 // so far
}

// idleProcess is the Stream node as the clients' process sees it.
type idleProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	last idleAnswer
}

func startIdleProcess() (*idleProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &idleProcess{cmd: exec.Command(self, "bench", "idle")}
	p.cmd.Env = append(os.Environ(), idleNodeEnv+"=1")
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<16)
	return p, p.cmd.Start()
}

// stop ends the process.
func (p *idleProcess) stop() {
	p.in.Close()
	p.cmd.Wait()
}

// exchange gives the node the time and what was sent to it, and takes what it
// sends into came.
func (p *idleProcess) exchange(now machine.Time, sent []idleBag, came *idleBag) error {
	ask := idleAsk{Now: int64(now)}
	for _, bag := range sent {
		ask.Datagrams += uint32(bag.len())
	}
	*came = (*came)[:0]
	err := binary.Write(p.in, binary.BigEndian, ask)
	for _, bag := range sent {
		if err == nil && len(bag) > 0 {
			_, err = p.in.Write(bag)
		}
	}
	if err == nil {
		err = binary.Read(p.out, binary.BigEndian, &p.last)
	}
	for range p.last.Datagrams {
		if err == nil {
			err = came.read(p.out)
		}
	}
	if err != nil {
		return fmt.Errorf("the Stream node's process: %w", err)
	}
	return nil
}

// read takes one more datagram from a reader.
func (g *idleBag) read(r io.Reader) error {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(r, g.add(binary.BigEndian.Uint32(n[:])))
	return err
}

// measure asks for the memory of the process, which does nothing else.
func (p *idleProcess) measure() (idleAnswer, error) {
	err := binary.Write(p.in, binary.BigEndian, idleAsk{Measure: true})
	if err == nil {
		err = binary.Read(p.out, binary.BigEndian, &p.last)
	}
	return p.last, err
}

// idleNode is the Stream node inside its process.
type idleNode struct {
	gate *gateway.Gateway
	in   *bufio.Reader
	out  *bufio.Writer
	bag  idleBag // one datagram that comes, then all that leave
	jobs []machine.Job
}

// serveIdleNode is the Stream node's process.
func serveIdleNode(in io.Reader, out io.Writer) error {
	static, onion, err := idleKeys(idleGate)
	if err != nil {
		return err
	}
	mid, _, err := idleKeys(idleMid)
	if err != nil {
		return err
	}
	cfg := hop.Config{Self: idleGate, Static: static, Onion: onion, StrangersMax: idleStrangers, SetupsMax: idleSetups,
		Neighbours: func(id wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) {
			return mid.Public(), idleAddr(0), id == idleMid
		}}
	n := &idleNode{
		gate: gateway.New(gateway.Config{Hop: cfg, Policy: control.Policy{Lifetime: 24 * time.Hour}, Fleet: &seal.Key{}}, prng.FromUint64(3)),
		in:   bufio.NewReaderSize(in, 1<<16),
		out:  bufio.NewWriterSize(out, 1<<16),
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
	a := idleAnswer{}
	if ask.Measure {
		a.Memory = settledMemory()
	} else {
		g.HandleTimer(now)
		for range ask.Datagrams {
			n.bag = n.bag[:0]
			if err := n.bag.read(n.in); err != nil {
				return err
			}
			from, b := n.bag.at(0)
			g.HandleDatagram(now, idleAddr(from), b)
		}
		n.bag = n.bag[:0]
		n.work(now)
		a.Datagrams = uint32(n.bag.len())
	}
	a.CPU, a.Sessions, a.Links = int64(cpuTime()), uint32(g.Len()), uint32(g.Links.Links())
	binary.Write(n.out, binary.BigEndian, a)
	if a.Datagrams > 0 {
		n.out.Write(n.bag)
	}
	return n.out.Flush()
}

// work runs jobs, reads what came on streams, and puts what leaves into the bag.
func (n *idleNode) work(now machine.Time) {
	g := n.gate
	n.runJobs(now)
	for _, ok := g.Table.PollReplay(); ok; _, ok = g.Table.PollReplay() {
	}
	for sent := true; sent; {
		for ev, ok := g.PollEvent(); ok; ev, ok = g.PollEvent() {
			if ev.Kind == session.Opened || ev.Kind == session.Readable {
				var b [64]byte
				g.Read(now, ev.Ref, b[:])
			}
		}
		var to netip.AddrPort
		if to, _, sent = g.PollTransmit(now, n.bag.add(0)); sent {
			binary.BigEndian.PutUint32(n.bag[len(n.bag)-idleRecord:], idleNumber(to))
		}
	}
	n.bag = n.bag[:len(n.bag)-idleRecord]
}

// runJobs runs the jobs on all processors, as drive does.
func (n *idleNode) runJobs(now machine.Time) {
	n.jobs = n.jobs[:0]
	for j, ok := n.gate.PollJob(); ok; j, ok = n.gate.PollJob() {
		n.jobs = append(n.jobs, j)
	}
	var all sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(n.jobs))
	for own := range workers {
		all.Go(func() {
			for i := own; i < len(n.jobs); i += workers {
				n.jobs[i].Run()
			}
		})
	}
	all.Wait()
	for _, j := range n.jobs {
		n.gate.HandleJob(now, j)
	}
}

// settledMemory is the memory of this process when it has given back what it does
// not use, as any node does in its time.
func settledMemory() (a idleMemory) {
	daemon.TrimMemory()
	a.Resident, a.Own, a.Peak = residentBytes(os.Getpid())
	before, began := cpuTime(), time.Now()
	runtime.GC()
	a.Cycle, a.CycleCPU = int64(time.Since(began)), int64(cpuTime()-before)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	a.Heap, a.Collections = m.HeapAlloc, m.NumGC
	a.Pause = int64(m.PauseNs[(m.NumGC+255)%256])
	return a
}
