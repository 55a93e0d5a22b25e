// Package doctor finds out why a network cannot be joined, why a node cannot start, and
// what is wrong with processes that run, and says of each finding what to do.
//
// It asks what a client or node would ask, of whom they would: who watches sees a client
// that starts. What it finds is for the user of this machine; nothing is sent anywhere.
package doctor

import (
	"context"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/setup"
)

// Code is the reason code of a finding. Codes are kept; scripts rely on them.
type Code string

// Codes.
const (
	// ClockOff: this machine's clock is not that of the directory's servers;
	// ClockDisputed: one of these has another than the rest.
	ClockOff      Code = "CLOCK_OFF"
	ClockDisputed Code = "CLOCK_DISPUTED"
	// UDPBlocked: entries do not answer datagrams, while directories answer requests.
	UDPBlocked Code = "UDP_BLOCKED"
	// NAT: this machine's address is translated on the way out; NATAdvertise: a node
	// names an address that this machine has not.
	NAT          Code = "NAT"
	NATAdvertise Code = "NAT_ADVERTISE"
	// FileWrong: a file cannot be read, or not be understood; NetworkWrong: no server
	// of the directory has what the authorities of the network file have signed.
	FileWrong    Code = "FILE_WRONG"
	NetworkWrong Code = "NETWORK_WRONG"
	// DirectoryUnreachable: no server of the directory answers; DirectoryPartly: some
	// do not; DirectoryEmpty: it has no document; DirectoryStale: only an old one.
	DirectoryUnreachable Code = "DIRECTORY_UNREACHABLE"
	DirectoryPartly      Code = "DIRECTORY_PARTLY"
	DirectoryEmpty       Code = "DIRECTORY_EMPTY"
	DirectoryStale       Code = "DIRECTORY_STALE"
	// DirectoryForged: some servers hand out what the authorities have not signed;
	// DirectoryFork: two documents of one number are signed.
	DirectoryForged Code = "DIRECTORY_FORGED"
	DirectoryFork   Code = "DIRECTORY_FORK"
	// ControlUnreachable: no control process answers.
	ControlUnreachable Code = "CONTROL_UNREACHABLE"
	// TokensMissing: entries admit by unlinkable tokens, and none was shown; NoRoute:
	// entries answer, and yet no route could be set up.
	TokensMissing Code = "TOKENS_MISSING"
	NoRoute       Code = "NO_ROUTE"
	// PortTaken: an address on which something is to listen is in use, or not this
	// machine's; DirUnwritable: a directory in which something is to be kept cannot be
	// written.
	PortTaken     Code = "PORT_TAKEN"
	DirUnwritable Code = "DIR_UNWRITABLE"
	// Died: a process ended without a word.
	Died Code = "DIED"
	// Of processes that run. PartDown: one of its parts does not work fully; Mute: one
	// does not answer; Overloaded: a node holds admissions back; Tampered: cells were
	// changed; Replayed: what was sent before comes again; Flooded: handshakes of nobody
	// come; Junk: datagrams of no link do, all of them lately.
	PartDown   Code = "PART_DOWN"
	Mute       Code = "MUTE"
	Overloaded Code = "OVERLOADED"
	Tampered   Code = "TAMPERED"
	Replayed   Code = "REPLAYED"
	Flooded    Code = "FLOODED"
	Junk       Code = "JUNK"
)

// Kind is what is behind a finding, as far as can be told from here.
type Kind string

// Kinds.
const (
	Misconfiguration Kind = "misconfiguration"
	Attack           Kind = "attack"
	Either           Kind = "attack or misconfiguration"
	Fault            Kind = "fault" // something is down, blocked or too small
	Note             Kind = "note"  // nothing is wrong
)

// Finding is one thing that was found, and what to do about it.
type Finding struct {
	Code Code   `json:"code"`
	Kind Kind   `json:"kind"`
	What string `json:"what"`
	Do   string `json:"do"`
}

// Patient is what is looked at. What is "" is left out.
type Patient struct {
	// NetworkFile is that of a client, ConfigFile of a node.
	NetworkFile, ConfigFile string
	// Socks is where a proxy is to listen.
	Socks string
	// Run is the directory in which processes show their standing.
	Run   string
	Kinds []joint.Kind // carriers that the program has beside UDP
	// Patience is how long entries are waited for; zero is patience.
	Patience time.Duration
	// Now is this machine's clock; nil is the system's.
	Now func() time.Time
	// Tell takes what is being looked at, for who waits; nil: nobody does.
	Tell func(what string)
}

// patience is for a client to come up on a slow network: the dial of an entry fails after
// 10 s, and a second one is tried then.
const patience = 15 * time.Second

// Report is what was looked at, what was not, and what was found.
type Report struct {
	Checked  []string   `json:"checked"`
	Unlooked []Unlooked `json:"not_checked,omitempty"`
	Findings []Finding  `json:"findings"`
}

// Unlooked is what was not looked at for want of a flag.
type Unlooked struct {
	What    string `json:"what"`
	Without string `json:"without"`
}

// Sick reports whether anything was found that is to be mended.
func (r *Report) Sick() bool {
	for _, f := range r.Findings {
		if f.Kind != Note {
			return true
		}
	}
	return false
}

func (r *Report) found(code Code, kind Kind, what, do string) {
	r.Findings = append(r.Findings, Finding{code, kind, what, do})
}

// examination is a report in the making.
type examination struct {
	Patient
	Report
}

func (e *examination) look(what string) {
	e.Checked = append(e.Checked, what)
	if e.Tell != nil {
		e.Tell(what)
	}
}

// unlooked tells what a report says nothing about: a client's way is known by its network
// file alone, the directory and the clock by either file.
func (e *examination) unlooked() {
	add := func(without string, all ...string) {
		for _, what := range all {
			e.Unlooked = append(e.Unlooked, Unlooked{what, without})
		}
	}
	switch {
	case e.NetworkFile != "":
	case e.ConfigFile != "":
		add("--network", "NAT on the way out", "whether entries answer by UDP")
	default:
		add("--network or --config", "the clock", "the directory", "the control plane")
		add("--network", "NAT on the way out", "whether entries answer by UDP")
		add("--config", "files and addresses of a node")
	}
}

// Examine looks at a patient.
func Examine(ctx context.Context, p Patient) Report {
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Patience == 0 {
		p.Patience = patience
	}
	e := &examination{Patient: p}
	e.unlooked()
	running := e.processes(ctx)
	if p.ConfigFile != "" {
		e.look("the configuration " + p.ConfigFile)
		cfg, err := setup.LoadConfig(p.ConfigFile)
		if err != nil {
			e.found(FileWrong, Misconfiguration, err.Error(), "mend the file; nyx node --check says whether it is right")
			return e.Report
		}
		e.node(ctx, cfg, running)
	}
	if p.NetworkFile != "" {
		e.look("the network file " + p.NetworkFile)
		n, err := setup.LoadNetwork(p.NetworkFile)
		if err != nil {
			e.found(FileWrong, Misconfiguration, err.Error(), "get the network file again from whom you have it")
			return e.Report
		}
		e.client(ctx, n, running)
	}
	return e.Report
}
