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
	applied := family(w, "config_applied_version", "gauge", "Revision of the configuration that is in force.")
	refused := family(w, "config_refused_version", "gauge", "Revision of the configuration that could not be had; 0: it could.")
	duplicates := family(w, "control_duplicate_event_detected", "counter", "Changes of the configuration that came to a node again, and events that came to the bus again; they were left out.")
	for _, p := range parts {
		if p.settled != nil {
			applied("{part=%q} %d", p.Name, p.settled.Revision)
			refused("{part=%q} %d", p.Name, p.settled.Refused)
			duplicates("{part=%q} %d", p.Name, p.settled.Duplicates)
		}
		if p.control != nil {
			duplicates("{part=%q} %d", p.Name, p.control.counts.duplicates.Load())
		}
		if p.desk != nil {
			applied("{part=%q} %d", p.Name, p.desk.revision)
		}
	}
	depth := family(w, "control_event_queue_depth", "gauge", "Changes of the configuration that are not accepted yet.")
	dead := family(w, "config_dead_letter_count", "counter", "Changes of the configuration that could not be had.")
	revived := family(w, "config_dead_letters_revived", "counter", "Those of them that went through in the end.")
	for _, p := range parts {
		if p.desk != nil {
			depth("{part=%q} %d", p.Name, p.desk.depth)
			dead("{part=%q} %d", p.Name, p.desk.dead)
			revived("{part=%q} %d", p.Name, p.desk.revived)
		}
	}
}
