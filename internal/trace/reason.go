package trace

// Reason is why a client leaves a node out of its paths for a while.
type Reason uint8

// Reasons, in the order of their counters.
const (
	ReasonTamper  Reason = iota // cells were changed beside it
	ReasonDrop                  // cells were lost beside it, or on routes through it
	ReasonDelay                 // routes through it are slower than others, beyond what mixing explains
	ReasonSilent                // it answers no more
	ReasonSetup                 // set-ups fail at it
	ReasonReplay                // it sent cells again
	ReasonSteer                 // routes fail at it by which neighbour they take
	ReasonRefused               // it refused the client
	NumReasons
)

var reasonNames = [NumReasons]string{"tamper", "drop", "delay", "silent", "setup", "replay", "steer", "refused"}

// String returns the reason's name as exported.
func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// AvoidedFor is the counter of nodes that were avoided for a reason.
func AvoidedFor(r Reason) Counter { return AvoidedTamper + Counter(r) }
