package control

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Credential is by what an entry knows a client.
type Credential uint8

// Credentials, the strongest last.
const (
	CredentialNone  Credential = iota // by nothing: an open network
	CredentialKey                     // it has proven the network's key
	CredentialToken                   // it has spent an unlinkable token
	numCredentials
)

var credentialNames = [numCredentials]string{"none", "key", "token"}

// String returns the credential's name as policies write it.
func (c Credential) String() string { return nameOf(credentialNames[:], uint8(c)) }

// Load is how busy the admission of an entry is.
type Load uint8

// Loads: the queue before admission is less than a quarter full, less than three
// quarters, or more.
const (
	LoadCalm Load = iota
	LoadBusy
	LoadFull
	numLoads
)

var loadNames = [numLoads]string{"calm", "busy", "full"}

// String returns the load's name as policies write it.
func (l Load) String() string { return nameOf(loadNames[:], uint8(l)) }

func nameOf(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}

// Question is a POLICY_CHECK: all that a policy may know of a SESSION_INIT. It
// names no client and no address, so that all clients of whom the same is known
// share one answer, and whoever answers learns of nobody. The region of the node
// is the node's, and goes with what it asks.
type Question struct {
	Credential Credential
	Level      wire.Level
	Load       Load
}

// NumQuestions is how many questions there are: what a node keeps of answers is
// bounded by it.
const NumQuestions = int(numCredentials) * int(wire.Extreme+1) * int(numLoads)

// place is the question's, from 0.
func (q Question) place() int {
	return (int(q.Credential)*int(wire.Extreme+1)+int(q.Level))*int(numLoads) + int(q.Load)
}

// QuestionAt is the question of a place below NumQuestions.
func QuestionAt(place int) Question {
	levels := int(wire.Extreme + 1)
	return Question{Credential(place / int(numLoads) / levels), wire.Level(place / int(numLoads) % levels), Load(place % int(numLoads))}
}

// Decision is a POLICY_ACCEPT, or the refusal.
type Decision struct {
	// Refused is why not; 0 accepts.
	Refused wire.Refusal
	// PerMinute and Lifetime replace the node's own where they are not 0, if they
	// are stricter.
	PerMinute int
	Lifetime  time.Duration
	// CacheFor is how long the decision may be used without asking again.
	CacheFor time.Duration
	// Work is the least difficulty of the proof of work that the client shows; 0:
	// none beyond what the node asks for itself.
	Work uint8
	// Revision is of the policy that decided.
	Revision string
}

// Bounds of decisions. A policy that says more is not followed.
const (
	CacheLeast, CacheMost = time.Second, 24 * time.Hour
	revisionMax           = 128
)

// Validate reports what is wrong with a decision.
func (d *Decision) Validate() error {
	switch {
	case d.Refused != 0 && d.Refused != wire.RefusedPolicy && d.Refused != wire.RefusedRate && d.Refused != wire.RefusedFull:
		return fmt.Errorf("reason %d is not a policy's to give: say 1 (policy), 2 (rate) or 3 (full)", d.Refused)
	case d.PerMinute < 0 || d.PerMinute > 1<<20:
		return fmt.Errorf("per_minute is %d: say 0 to %d", d.PerMinute, 1<<20)
	case d.Lifetime < 0 || d.Lifetime > CacheMost || d.Lifetime != 0 && d.Lifetime < time.Second:
		return fmt.Errorf("lifetime_s is %v: say 1 to %d seconds, or 0 for the node's own", d.Lifetime, int(CacheMost.Seconds()))
	case d.CacheFor < CacheLeast || d.CacheFor > CacheMost:
		return fmt.Errorf("cache_s is %v: say 1 to %d seconds", d.CacheFor, int(CacheMost.Seconds()))
	case d.Work > WorkMost:
		return fmt.Errorf("work is %d: say 0 to %d bits", d.Work, WorkMost)
	case len(d.Revision) > revisionMax:
		return fmt.Errorf("the revision has %d bytes, at most %d are allowed", len(d.Revision), revisionMax)
	}
	return nil
}
