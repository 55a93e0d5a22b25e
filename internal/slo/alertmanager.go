package slo

// Receivers are where alerts go.
type Receivers struct {
	// PagerDutyKeyFile holds the integration key of a service of PagerDuty (events API
	// v2); pages go there.
	PagerDutyKeyFile string
	// PagerDutyURL is another server with that API; "" is PagerDuty's.
	PagerDutyURL string
	// TicketURL is a webhook, to which tickets go.
	TicketURL string
}

// Shipped are the receivers of deploy/alertmanager/alertmanager.yml.
var Shipped = Receivers{PagerDutyKeyFile: "/etc/alertmanager/pagerduty.key", TicketURL: "http://127.0.0.1:9099/tickets"}

// Alertmanager is a configuration of Alertmanager. Alerts of one name and objective are
// one notification, however many instances raise them; a page about an objective silences
// its tickets, and the faster burn the slower.
func Alertmanager(to Receivers) []byte {
	d := &document{}
	d.line(0, generated)
	d.line(0, "route:")
	d.line(1, "receiver: tickets")
	d.line(1, "group_by: [alertname, slo]")
	d.line(1, "group_wait: 5s")
	d.line(1, "group_interval: 1m")
	d.line(1, "repeat_interval: 4h")
	d.line(1, "routes:")
	d.line(2, "- receiver: pagerduty")
	d.line(3, "matchers: ['severity=\"%s\"']", Page)
	d.line(0, "inhibit_rules:")
	d.line(1, "- source_matchers: ['severity=\"%s\"']", Page)
	d.line(2, "target_matchers: ['severity=\"%s\"']", Ticket)
	d.line(2, "equal: [slo, layer]")
	for i, b := range Burns[:len(Burns)-1] {
		d.line(1, "- source_matchers: ['alertname=\"%s\"']", b.Name)
		d.line(2, "target_matchers: ['alertname=~\"%s\"']", slower(i))
		d.line(2, "equal: [slo]")
	}
	d.line(0, "receivers:")
	d.line(1, "- name: pagerduty")
	d.line(2, "pagerduty_configs:")
	d.line(3, "- routing_key_file: %s", quoted(to.PagerDutyKeyFile))
	if to.PagerDutyURL != "" {
		d.line(4, "url: %s", quoted(to.PagerDutyURL))
	}
	d.line(4, "send_resolved: true")
	d.line(4, "severity: critical")
	d.line(4, "description: %s", quoted("{{ .CommonAnnotations.summary }}"))
	d.line(1, "- name: tickets")
	d.line(2, "webhook_configs:")
	d.line(3, "- url: %s", quoted(to.TicketURL))
	d.line(4, "send_resolved: true")
	return []byte(d.String())
}

// slower is a pattern of the burns after one.
func slower(i int) (pattern string) {
	for _, b := range Burns[i+1:] {
		if pattern != "" {
			pattern += "|"
		}
		pattern += b.Name
	}
	return pattern
}

// Prometheus is a configuration of Prometheus that reads some processes.
func Prometheus(targets []string, rules string, alertmanager string) []byte {
	d := &document{}
	d.line(0, generated)
	d.line(0, "global:")
	d.line(1, "scrape_interval: %s", every)
	d.line(1, "scrape_timeout: 4s")
	d.line(1, "evaluation_interval: %s", every)
	d.line(0, "storage:")
	d.line(1, "tsdb:")
	d.line(2, "# What is pushed late is a day old at most.")
	d.line(2, "out_of_order_time_window: 24h")
	d.line(0, "rule_files: [%s]", quoted(rules))
	d.line(0, "alerting:")
	d.line(1, "alertmanagers:")
	d.line(2, "- static_configs:")
	d.line(4, "- targets: [%s]", quoted(alertmanager))
	d.line(0, "scrape_configs:")
	d.line(1, "- job_name: nyx")
	d.line(2, "static_configs:")
	d.line(3, "- targets:")
	for _, t := range targets {
		d.line(5, "- %s", quoted(t))
	}
	return []byte(d.String())
}
