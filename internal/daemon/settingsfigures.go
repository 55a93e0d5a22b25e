package daemon

import "io"

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
func writeSettings(w io.Writer, parts []part) {
	each := func(name, kind, help string, of func(p *part, say func(any))) {
		g := family(w, name, kind, help)
		for i := range parts {
			of(&parts[i], func(n any) { g("{part=%q} %d", parts[i].Name, n) })
		}
	}
	each("config_applied_version", "gauge", "Revision of the configuration that is in force.", func(p *part, say func(any)) {
		if p.settled != nil {
			say(p.settled.Revision)
		}
		if p.desk != nil {
			say(p.desk.revision)
		}
	})
	each("config_refused_version", "gauge", "Revision of the configuration that could not be had; 0: it could.", func(p *part, say func(any)) {
		if p.settled != nil {
			say(p.settled.Refused)
		}
	})
	each("control_duplicate_event_detected", "counter", "Changes of the configuration that came to a node again, and events that came to the bus again; they were left out.", func(p *part, say func(any)) {
		if p.settled != nil {
			say(p.settled.Duplicates)
		}
		if p.control != nil {
			say(p.control.counts.duplicates.Load())
		}
	})
	each("control_event_queue_depth", "gauge", "Changes of the configuration that are not accepted yet.", func(p *part, say func(any)) {
		if p.desk != nil {
			say(p.desk.depth)
		}
	})
	each("config_dead_letter_count", "counter", "Changes of the configuration that could not be had.", func(p *part, say func(any)) {
		if p.desk != nil {
			say(p.desk.dead)
		}
	})
	each("config_dead_letters_revived", "counter", "Those of them that went through in the end.", func(p *part, say func(any)) {
		if p.desk != nil {
			say(p.desk.revived)
		}
	})
}
