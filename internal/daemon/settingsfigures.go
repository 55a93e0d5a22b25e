package daemon

import "github.com/nyxnet/nyx/internal/metric"

// deskFigures is what the control plane tells of the configuration.
type deskFigures struct {
	revision      uint64
	depth         int
	dead, revived uint64
}

func (d *SettingsDesk) figures() *deskFigures {
	f := &deskFigures{revision: d.log.Revision(), depth: d.log.Depth()}
	f.dead, f.revived = d.log.DeadCount()
	return f
}

// writeSettings writes the figures of the configuration by the names of the
// specification.
func writeSettings(to *metric.Page, parts []part) {
	for i := range parts {
		p := &parts[i]
		say := func(name string, n uint64) { to.Add(name, float64(n), "part", p.Name) }
		if s := p.settled; s != nil {
			say("config_applied_version", s.Revision)
			say("config_refused_version", s.Refused)
			say("control_duplicate_event_detected", s.Duplicates)
		}
		if p.control != nil {
			say("control_duplicate_event_detected", p.control.counts.duplicates.Load())
		}
		if d := p.desk; d != nil {
			say("config_applied_version", d.revision)
			say("control_event_queue_depth", uint64(d.depth))
			say("config_dead_letter_count", d.dead)
			say("config_dead_letters_revived", d.revived)
		}
	}
}
