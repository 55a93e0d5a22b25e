package lab

import (
	"bytes"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream"
)

// transparentRepair is DF-017: repairs go through five hops that cannot tell
// them, and rebuild what was lost on the way.
func transparentRepair(r *Run) error {
	// Redundancy is 2 × loss + 1/40 (section 12.12).
	w, err := r.repairNetwork(1, (r.Param("redundancy")-1.0/40)/2)
	if err != nil {
		return err
	}
	messages, ended := r.Scaled("messages"), 0
	for i := range messages {
		body := messageBody(r, i, int(r.Param("message_bytes")))
		w.Users[0].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			ended++
			r.Trial("messages_failed", err != nil || !bytes.Equal(answer, body))
		})
	}
	w.Sim.RunWhile(w.Sim.Now().Add(5*time.Minute), func() bool { return ended < messages })
	w.Sim.RunFor(2 * time.Second) // acknowledgements under way
	count := func(all []stream.Stats) {
		for _, st := range all {
			if r.Protected {
				r.Tally("fec_recovery_ratio", uint64(st.Recovered), uint64(st.Recovered)+uint64(st.Unrecovered))
				r.Tally("redundancy", st.RepairsSent, st.PacketsSent-st.RepairsSent)
			} else {
				r.Tally("fec_recovery_ratio", 0, st.Lost)
			}
		}
	}
	for _, g := range w.Gateways {
		count(g.Core().Figures())
	}
	count(w.Users[0].Core().Figures())
	return nil
}
