package lab

import (
	"testing"
	"time"
)

// Users whose clocks are an hour off, either way, begin sessions like others
// while the onion keys of all nodes turn, and nodes are up to half an hour off
// themselves. (Control: where nodes do not accept the key of the next period,
// whose clock is ahead has no session for as long as it is.)
func TestClocksAnHourOffThroughATurnOfKeys(t *testing.T) {
	run := func(next bool) (affected, sessions map[time.Duration]int) {
		affected, sessions = map[time.Duration]int{}, map[time.Duration]int{}
		r := NewRun(&Scenario{Parameters: map[string]float64{"stream_nodes": 4, "mix_nodes": 9, "users": 3, "session_every_s": 120}}, 1)
		if err := r.turnKeys(next, true, func(clock time.Duration, bad bool) {
			sessions[clock]++
			if bad {
				affected[clock]++
			}
		}); err != nil {
			t.Fatal(err)
		}
		return affected, sessions
	}
	affected, sessions := run(true)
	without, _ := run(false)
	t.Logf("of %v sessions %v were affected, without the next period's key %v", sessions, affected, without)
	for _, clock := range turnClocks {
		if affected[clock] > 0 || sessions[clock] < 25 {
			t.Errorf("clock %v off: %d of %d sessions affected", clock, affected[clock], sessions[clock])
		}
	}
	if without[time.Hour] < 5 {
		t.Errorf("the control affected %d sessions of a clock that is ahead", without[time.Hour])
	}
}
