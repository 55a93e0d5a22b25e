package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/trace"
)

// From how many on what was dropped lately is told: a few are of networks that repeat
// datagrams, of neighbours that have restarted, and of scans that every address sees.
const (
	replaysTold = 8
	floodTold   = 1000
	junkTold    = 1000
)

// processes asks those that run, and tells what is wrong with them.
func (e *examination) processes(ctx context.Context) []daemon.Standing {
	if e.Run == "" {
		return nil
	}
	all, err := daemon.Standings(ctx, e.Run)
	e.look(counted(len(all), "running process", "running processes"))
	if err != nil {
		e.found(Mute, Fault, err.Error(), "give it a moment; if it stays so, stop the process and start it again")
	}
	e.lost()
	for _, s := range all {
		for _, p := range s.Parts {
			e.part(&s, &p)
		}
	}
	return all
}

// counted writes a number of things.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// lost tells of processes that ended without a word.
func (e *examination) lost() {
	all, err := daemon.LostIn(e.Run)
	if err != nil {
		e.found(FileWrong, Misconfiguration, err.Error(), "remove the file")
	}
	for _, l := range all {
		log := "what it printed last"
		if l.Log != "" {
			log = "its log, " + l.Log
		}
		name := l.Program
		if l.Name != "" {
			name += " " + l.Name
		}
		e.found(Died, Fault, fmt.Sprintf("nyx %s (process %d), which ran since %s, ended without a word; it was last seen at %s", name, l.PID, l.Since.Local().Format(time.DateTime), l.Seen.Local().Format(time.DateTime)),
			fmt.Sprintf("start it again; look at %s, and in the system's log for whether it was killed for want of memory; if it is not to run any more, remove %s", log, l.Note))
	}
}

func (e *examination) part(s *daemon.Standing, p *daemon.StandingPart) {
	name := fmt.Sprintf("%s (%s, process %d)", p.Name, s.Program, s.PID)
	n := func(c trace.Counter) uint64 { return p.Lately[c.String()] }
	lately := "in the last " + s.At.Sub(s.Lately).Round(time.Second).String()
	if !p.Works {
		e.found(PartDown, Fault, fmt.Sprintf("%s does not work fully since %s: %s", name, p.Since.Format("15:04:05"), p.State), "if it does not mend by itself in a minute: nyx doctor with --network of a client, or --config of a node, says more")
	}
	if p.Alone {
		e.found(ControlUnreachable, Fault, name+" has no answer of the control plane", "see whether its processes run; the node goes by what was decided last")
	}
	if p.Overloaded {
		e.found(Overloaded, Fault, name+" is overloaded, and holds back what it admits", "give it more processors or a capacity that it has, or more nodes beside it")
	}
	if p.FellBack {
		e.found(UDPBlocked, Note, name+" goes by a fall-back: UDP to its entry does not pass", "nothing; let UDP out in the firewall between to be faster")
	}
	if p.ForgedLately > 0 {
		e.found(DirectoryForged, Attack, fmt.Sprintf("%s had %d answers of directory servers that the authorities have not signed, %s", name, p.ForgedLately, lately), "nothing at once, they were refused; the process's log names the servers: tell the network's operators")
	}
	if t := n(trace.RoutesTampered) + n(trace.AvoidedTamper); t > 0 {
		e.found(Tampered, Attack, fmt.Sprintf("%s: cells were changed or sent twice on the way, %d times %s", name, t, lately), "nothing at once: such routes are left, and their nodes avoided")
	}
	if r := n(trace.DropSetupReplay) + n(trace.DropCellReplay); r >= replaysTold {
		e.found(Replayed, Attack, fmt.Sprintf("%s: set-ups or cells that came before came again, %d times %s", name, r, lately), "nothing at once: they were dropped; whoever sends them holds a neighbour's link or is one")
	}
	if f := n(trace.DropHandshakeCookie) + n(trace.DropHandshakeLimit) + n(trace.DropHandshakeMalformed); f >= floodTold && f > 10*n(trace.HandshakesDone) {
		e.found(Flooded, Attack, fmt.Sprintf("%s: %d handshakes of peers that do not prove their address, and %d that do, %s", name, f, n(trace.HandshakesDone), lately), "nothing at once: each costs a hash; if the line itself is full, have the provider filter")
	}
	if j := n(trace.DropLinkUnknown) + n(trace.DropSize) + n(trace.DropLinkAuth); j >= junkTold && j > n(trace.LinkIn)/10 {
		e.found(Junk, Either, fmt.Sprintf("%s: %d of %d datagrams are of no link, %s", name, j, n(trace.LinkIn), lately), "if the node has just restarted, wait a minute; else somebody sends junk, which is dropped, or the port is another program's")
	}
}
