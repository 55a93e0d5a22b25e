package translog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nyxnet/nyx/internal/directory"
)

// Kinds of Evidence.
const (
	// KindDocuments: two different documents have one number.
	KindDocuments = "documents"
	// KindLog: a log has shown two checkpoints of which neither goes on from the
	// other.
	KindLog = "log"
)

// Evidence is what must not be, in a form that convinces whoever has the network
// file: nothing in it rests on the word of who found it.
type Evidence struct {
	Format  int    `json:"format"`
	Kind    string `json:"kind"`
	Network string `json:"network"`
	// Documents are two.
	Documents []Testimony `json:"documents,omitempty"`
	// Checkpoints are two notes of one log, the smaller one first, and Path hashes
	// of the larger one's tree from which both roots follow; the smaller one's is
	// another. Without a path, of two sizes, the log still owes a proof that it is
	// honest.
	Checkpoints []string `json:"checkpoints,omitempty"`
	Path        string   `json:"path,omitempty"`
}

// Testimony is what is known of one document: its header, what shows that
// authorities signed it, and what shows that it is in a log. One of these suffices.
type Testimony struct {
	Header []byte `json:"header"`
	// Proposal is the header with the authorities' signatures.
	Proposal []byte `json:"proposal,omitempty"`
	// Proof is that of a log (tlog-proof).
	Proof string `json:"proof,omitempty"`
}

// MaxEvidenceSize bounds evidence, in bytes.
const MaxEvidenceSize = 2 << 20

const evidenceFormat = 1

// Encode writes evidence as JSON.
func (e *Evidence) Encode() []byte {
	e.Format = evidenceFormat
	b, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		panic("translog: evidence does not encode: " + err.Error()) // strings and bytes always do
	}
	return append(b, '\n')
}

// ParseEvidence reads evidence.
func ParseEvidence(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidenceSize {
		return nil, fmt.Errorf("%w evidence: %d bytes", ErrMalformed, len(b))
	}
	e := &Evidence{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("%w evidence: %v", ErrMalformed, err)
	}
	if e.Format != evidenceFormat {
		return nil, fmt.Errorf("%w evidence: format %d is not known here", ErrMalformed, e.Format)
	}
	return e, nil
}

// Name is a name for the evidence that the same finding gets again.
func (e *Evidence) Name() string {
	if e.Kind == KindDocuments && len(e.Documents) > 0 {
		if _, m, err := directory.ParseHeader(e.Documents[0].Header); err == nil {
			return fmt.Sprintf("documents-%d-%d", m.Epoch, m.Revision)
		}
	}
	if len(e.Checkpoints) == 2 {
		lines := strings.SplitN(e.Checkpoints[0], "\n", 3)
		if len(lines) == 3 {
			return fmt.Sprintf("log-%s-%s", lines[0][strings.LastIndexByte(lines[0], '/')+1:], lines[1])
		}
	}
	return e.Kind
}

// Finding is what evidence shows.
type Finding struct {
	// Says is a sentence for people.
	Says string `json:"says"`
	// Proven means that the accused cannot have kept to the rules.
	Proven bool `json:"proven"`
	// Accused are authorities, by the hexadecimal beginning of their ID as in the
	// origin of their log.
	Accused []string `json:"accused"`
}

// Judge says what evidence shows to who has the network file. Evidence that shows
// nothing is an error.
func (e *Evidence) Judge(p *Policy, trust *directory.Trust) (Finding, error) {
	if e.Network != p.Network {
		return Finding{}, fmt.Errorf("%w: evidence about %q, this network is %q", directory.ErrNetwork, e.Network, p.Network)
	}
	switch {
	case e.Kind == KindDocuments && len(e.Documents) == 2:
		return e.judgeDocuments(p, trust)
	case e.Kind == KindLog && len(e.Checkpoints) == 2:
		return e.judgeLog(p)
	}
	return Finding{}, fmt.Errorf("%w evidence of kind %q", ErrMalformed, e.Kind)
}

func (e *Evidence) judgeDocuments(p *Policy, trust *directory.Trust) (f Finding, err error) {
	var marks [2]directory.Mark
	var signed [2][]string // who signed each; nil: not shown
	var logs [2]string
	for i, t := range e.Documents {
		var h directory.Header
		if h, marks[i], err = directory.ParseHeader(t.Header); err != nil {
			return f, err
		}
		if h.Network != p.Network {
			return f, fmt.Errorf("%w: document %d is of %q", directory.ErrNetwork, i+1, h.Network)
		}
		if signed[i], logs[i], err = t.check(p, trust, marks[i]); err != nil {
			return f, fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	if !marks[0].Conflicts(marks[1]) {
		return f, fmt.Errorf("%w evidence: the documents have two numbers, or are one", ErrMalformed)
	}
	f.Proven = true
	what := fmt.Sprintf("two different documents of epoch %d revision %d", marks[0].Epoch, marks[0].Revision)
	if signed[0] != nil && signed[1] != nil {
		for _, a := range signed[0] {
			for _, b := range signed[1] {
				if a == b {
					f.Accused = append(f.Accused, a)
				}
			}
		}
		f.Says = fmt.Sprintf("%s have enough signatures each; %d authorities signed both", what, len(f.Accused))
		return f, nil
	}
	for i := range logs {
		if logs[i] != "" && (i == 0 || logs[i] != logs[0]) {
			f.Accused = append(f.Accused, logs[i])
		}
	}
	f.Says = what + " are vouched for by the accused together: at least one of them logged what was not to be, or signed twice"
	return f, nil
}

// check returns who signed a document, if that is shown, and whose log has it, if
// that is.
func (t *Testimony) check(p *Policy, trust *directory.Trust, m directory.Mark) (signed []string, log string, err error) {
	if len(t.Proposal) > 0 {
		d, err := directory.VerifyProposal(t.Proposal, trust)
		if err != nil {
			return nil, "", err
		}
		if d.Mark() != m {
			return nil, "", fmt.Errorf("%w evidence: signatures of another document", ErrMalformed)
		}
		d.KeepValid(trust)
		for _, s := range d.Signatures() {
			signed = append(signed, fmt.Sprintf("%x", s.Authority[:16]))
		}
	}
	if t.Proof != "" {
		proof, err := ParseProof([]byte(t.Proof))
		if err != nil {
			return nil, "", err
		}
		lone := *p
		lone.Threshold = 0 // the log's own signature accuses it
		c, err := lone.Verify(t.Header, proof)
		if err != nil {
			return nil, "", err
		}
		log = c.Origin[strings.LastIndexByte(c.Origin, '/')+1:]
	}
	if signed == nil && log == "" {
		return nil, "", fmt.Errorf("%w evidence: neither signatures nor a proof", ErrMalformed)
	}
	return signed, log, nil
}

func (e *Evidence) judgeLog(p *Policy) (f Finding, err error) {
	var heads [2]Checkpoint
	var witnesses [2]int
	for i, text := range e.Checkpoints {
		if heads[i], witnesses[i], err = p.Open([]byte(text)); err != nil {
			return f, fmt.Errorf("checkpoint %d: %w", i+1, err)
		}
	}
	a, b := heads[0], heads[1]
	if a.Origin != b.Origin || a.Size > b.Size || a == b {
		return f, fmt.Errorf("%w evidence: no two checkpoints of one log, the smaller one first", ErrMalformed)
	}
	f.Accused = []string{a.Origin[strings.LastIndexByte(a.Origin, '/')+1:]}
	f.Says = fmt.Sprintf("the log %s signed checkpoints of %d and %d entries (%d and %d witnesses)", a.Origin, a.Size, b.Size, witnesses[0], witnesses[1])
	if a.Size == b.Size {
		f.Proven, f.Says = true, f.Says+" with different roots"
		return f, nil
	}
	if e.Path == "" {
		f.Says += "; no proof was given that one goes on from the other, nor that it does not"
		return f, nil
	}
	hashes, err := ParseHashes(e.Path)
	if err != nil {
		return f, err
	}
	first, all, rest, ok := roots(hashes, 0, b.Size, a.Size)
	if !ok || len(rest) > 0 || all != b.Root || first == a.Root {
		return f, fmt.Errorf("%w evidence: the path does not show that the checkpoints contradict each other", ErrMalformed)
	}
	f.Proven, f.Says = true, f.Says+", and the second is not a continuation of the first"
	return f, nil
}
