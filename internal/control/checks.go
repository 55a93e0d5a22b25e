package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// POLICY_CHECK and its answer between a node and the control plane
// (POST /control/v1/policy): JSON in the words in which policies are written
// (docs/control-plane.md).
//
//	{"region":"eu","questions":[{"credential":"none","level":"standard","load":"calm"}]}
//	{"decisions":[{"revision":"7","accept":true,"per_minute":30,"lifetime_s":3600,"cache_s":300}]}
//
// The decisions are in the order of the questions.

// Checks are the questions that a node asks together.
type Checks struct {
	Region    string
	Questions []Question
}

// Bounds of the two messages, in bytes.
const (
	ChecksMax    = 8 << 10
	DecisionsMax = 32 << 10
	regionMax    = 64
)

type checksJSON struct {
	Region    string         `json:"region"`
	Questions []questionJSON `json:"questions"`
}

type questionJSON struct {
	Credential string `json:"credential"`
	Level      string `json:"level"`
	Load       string `json:"load"`
}

type decisionsJSON struct {
	Decisions []DecisionJSON `json:"decisions"`
}

// DecisionJSON is a Decision in the words of policies: what a policy's rule yields.
// Durations are in seconds; reason is that of SESSION_REFUSED and stands where accept
// is false.
type DecisionJSON struct {
	Revision  string `json:"revision,omitempty"`
	Accept    bool   `json:"accept"`
	Reason    uint8  `json:"reason,omitempty"`
	PerMinute int    `json:"per_minute,omitempty"`
	Lifetime  int64  `json:"lifetime_s,omitempty"`
	CacheFor  int64  `json:"cache_s"`
	Work      uint8  `json:"work,omitempty"`
}

// Decision is the decision, checked.
func (j *DecisionJSON) Decision() (Decision, error) {
	const secondsMax = int64(CacheMost / time.Second)
	if j.Lifetime > secondsMax || j.CacheFor > secondsMax || j.Lifetime < 0 || j.CacheFor < 0 {
		return Decision{}, fmt.Errorf("lifetime_s and cache_s are %d and %d: say at most %d", j.Lifetime, j.CacheFor, secondsMax)
	}
	d := Decision{
		Refused: wire.Refusal(j.Reason), PerMinute: j.PerMinute, Lifetime: time.Duration(j.Lifetime) * time.Second,
		CacheFor: time.Duration(j.CacheFor) * time.Second, Work: j.Work, Revision: j.Revision,
	}
	if j.Accept == (j.Reason != 0) {
		return Decision{}, fmt.Errorf("accept is %v with reason %d: a refusal has a reason, and nothing else has", j.Accept, j.Reason)
	}
	return d, d.Validate()
}

// Encode writes the questions.
func (c *Checks) Encode() []byte {
	out := checksJSON{Region: c.Region, Questions: []questionJSON{}}
	for _, q := range c.Questions {
		out.Questions = append(out.Questions, questionJSON{q.Credential.String(), q.Level.String(), q.Load.String()})
	}
	return encode(out)
}

// ParseChecks reads questions of anybody: unknown words and fields are errors.
func ParseChecks(b []byte) (Checks, error) {
	var in checksJSON
	if err := decode(b, &in); err != nil {
		return Checks{}, err
	}
	c := Checks{Region: in.Region}
	if len(in.Region) > regionMax || len(in.Questions) == 0 || len(in.Questions) > NumQuestions {
		return Checks{}, fmt.Errorf("a region of %d bytes and %d questions: at most %d bytes and 1 to %d are allowed", len(in.Region), len(in.Questions), regionMax, NumQuestions)
	}
	for _, q := range in.Questions {
		parsed, ok := q.question()
		if !ok {
			return Checks{}, fmt.Errorf("%q, %q, %q is not a credential, a level and a load", q.Credential, q.Level, q.Load)
		}
		c.Questions = append(c.Questions, parsed)
	}
	return c, nil
}

func (j *questionJSON) question() (q Question, ok bool) {
	level, ok := wire.ParseLevel(j.Level)
	if !ok {
		return q, false
	}
	q.Level = level
	for q.Credential = 0; q.Credential < numCredentials && q.Credential.String() != j.Credential; q.Credential++ {
	}
	for q.Load = 0; q.Load < numLoads && q.Load.String() != j.Load; q.Load++ {
	}
	return q, q.Credential < numCredentials && q.Load < numLoads
}

// EncodeDecisions writes the answers to questions.
func EncodeDecisions(all []Decision) []byte {
	out := decisionsJSON{Decisions: []DecisionJSON{}}
	for _, d := range all {
		out.Decisions = append(out.Decisions, DecisionJSON{
			Revision: d.Revision, Accept: d.Refused == 0, Reason: uint8(d.Refused), PerMinute: d.PerMinute,
			Lifetime: int64(d.Lifetime / time.Second), CacheFor: int64(d.CacheFor / time.Second), Work: d.Work,
		})
	}
	return encode(out)
}

// ParseDecisions reads the answers to so many questions.
func ParseDecisions(b []byte, questions int) ([]Decision, error) {
	var in decisionsJSON
	if err := decode(b, &in); err != nil {
		return nil, err
	}
	if len(in.Decisions) != questions {
		return nil, fmt.Errorf("%d decisions for %d questions", len(in.Decisions), questions)
	}
	out := make([]Decision, questions)
	for i := range in.Decisions {
		var err error
		if out[i], err = in.Decisions[i].Decision(); err != nil {
			return nil, fmt.Errorf("decision %d: %w", i+1, err)
		}
	}
	return out, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("control: plain values refused: " + err.Error())
	}
	return b
}

// decode reads one JSON value with known fields, and nothing after it.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
