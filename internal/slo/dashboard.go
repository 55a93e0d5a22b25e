package slo

import "encoding/json"

// Source is the uid of the data source of all dashboards.
const Source = "nyx-prometheus"

// Dashboard is a page of Grafana.
type Dashboard struct {
	UID, Title, About string
	Panels            []Panel
}

// Panel is one picture of it.
type Panel struct {
	Title string
	// Unit is one of Grafana's: s, ms, bytes, percentunit, short, ops.
	Unit    string
	Queries []Query
	// Needs says what a network must have, or what must have come about in it, before the
	// panel has data; "": it has them as soon as a network carries traffic.
	Needs string
	// Waits says the same of what takes longer than a test lasts, or that the panel stays
	// empty until a day has ended. The test of all panels passes over those alone that wait.
	Waits string
	Stat  bool // a number instead of a curve
}

// Query is PromQL, and how its curves are called.
type Query struct{ Expr, Legend string }

// Panels stand three in a row of 24 columns.
const (
	panelWidth  = 8
	panelHeight = 7
)

type object = map[string]any

// JSON is the dashboard as Grafana reads it.
func (d *Dashboard) JSON() []byte {
	source := object{"type": "prometheus", "uid": Source}
	panels := make([]object, len(d.Panels))
	for i, p := range d.Panels {
		targets := make([]object, len(p.Queries))
		for k, q := range p.Queries {
			targets[k] = object{"refId": string(rune('A' + k)), "datasource": source, "expr": q.Expr, "legendFormat": q.Legend}
		}
		kind := "timeseries"
		if p.Stat {
			kind = "stat"
		}
		panels[i] = object{
			"id": i + 1, "title": p.Title, "type": kind, "description": p.Needs + p.Waits, "datasource": source, "targets": targets,
			"gridPos":     object{"x": i % 3 * panelWidth, "y": i / 3 * panelHeight, "w": panelWidth, "h": panelHeight},
			"fieldConfig": object{"defaults": object{"unit": p.Unit}, "overrides": []any{}},
		}
	}
	b, err := json.MarshalIndent(object{
		"uid": d.UID, "title": d.Title, "description": d.About, "tags": []string{"nyx"}, "schemaVersion": 39, "version": 1, "editable": false,
		"timezone": "browser", "refresh": "5s", "time": object{"from": "now-1h", "to": "now"}, "panels": panels,
		"templating": object{"list": []any{}}, "annotations": object{"list": []any{}},
	}, "", "  ")
	if err != nil {
		panic("a dashboard is no JSON: " + err.Error())
	}
	return append(b, '\n')
}

// sources are Grafana's data sources: Prometheus, of which the dashboards are, and Tempo
// and Loki where deploy has them. A span leads to the log of its process.
const sources = `
apiVersion: 1
datasources:
  - name: Nyx
    uid: ` + Source + `
    type: prometheus
    access: proxy
    url: http://127.0.0.1:9090
    jsonData:
      timeInterval: ` + every + `
  - name: Nyx traces
    uid: nyx-tempo
    type: tempo
    access: proxy
    url: http://127.0.0.1:3200
    jsonData:
      tracesToLogsV2:
        datasourceUid: nyx-loki
        tags:
          - key: service.instance.id
            value: service_instance_id
  - name: Nyx logs
    uid: nyx-loki
    type: loki
    access: proxy
    url: http://127.0.0.1:3100
`

// File is a file of deploy, by its path there.
type File struct {
	Path    string
	Content []byte
}

// Files are all that is in deploy of this package.
func Files() []File {
	files := []File{
		{"prometheus/nyx.rules.yml", Rules(Objectives)},
		{"prometheus/prometheus.yml", Prometheus([]string{"127.0.0.1:9464"}, "nyx.rules.yml", "127.0.0.1:9093")},
		{"alertmanager/alertmanager.yml", Alertmanager(Shipped)},
		{"grafana/provisioning/datasources/nyx.yml", []byte(generated + sources)},
		{"grafana/provisioning/dashboards/nyx.yml", []byte(generated + "\napiVersion: 1\nproviders:\n  - name: nyx\n    folder: Nyx\n    type: file\n    options:\n      path: /var/lib/grafana/dashboards/nyx\n")},
	}
	for i := range Dashboards {
		files = append(files, File{"grafana/dashboards/" + Dashboards[i].UID + ".json", Dashboards[i].JSON()})
	}
	return files
}
