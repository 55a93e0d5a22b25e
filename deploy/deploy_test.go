package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// setting is a place that the environment names, with its default.
var setting = regexp.MustCompile(`\$\{(?:env:)?(NYX_[A-Z0-9_]+):-([^}]*)\}`)

// Each program sends to where the next one listens, Grafana asks where they answer, and no
// two of them listen at one port: what is shipped runs on one machine as it is.
func TestPlacesFit(t *testing.T) {
	at, ports := map[string]string{}, map[string]string{}
	for _, file := range [][]byte{Collector, Tempo, Loki} {
		for _, m := range setting.FindAllStringSubmatch(string(file), -1) {
			if was, ok := at[m[1]]; ok && was != m[2] {
				t.Errorf("%s is %s here and %s there", m[1], was, m[2])
			}
			at[m[1]] = m[2]
		}
	}
	for _, name := range []string{"NYX_OTLP_LISTEN", "NYX_COLLECTOR_PORT", "NYX_TEMPO_LISTEN", "NYX_TEMPO_PORT", "NYX_TEMPO_GRPC_PORT", "NYX_LOKI_PORT", "NYX_LOKI_GRPC_PORT"} {
		port := at[name][strings.LastIndexByte(at[name], ':')+1:]
		if port == "" || ports[port] != "" {
			t.Errorf("%s listens at port %q, as %q does", name, port, ports[port])
		}
		ports[port] = name
	}
	const loopback = "http://127.0.0.1:"
	if got, want := at["NYX_TRACES_TO"], "http://"+at["NYX_TEMPO_LISTEN"]; got != want {
		t.Errorf("the Collector sends traces to %s; Tempo takes them at %s", got, want)
	}
	if got, want := at["NYX_LOGS_TO"], loopback+at["NYX_LOKI_PORT"]+"/otlp"; got != want {
		t.Errorf("the Collector sends logs to %s; Loki takes them at %s", got, want)
	}
	sources, err := os.ReadFile("grafana/provisioning/datasources/nyx.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"NYX_TEMPO_PORT", "NYX_LOKI_PORT"} {
		if want := "url: " + loopback + at[name] + "\n"; !strings.Contains(string(sources), want) {
			t.Errorf("no data source of Grafana has %q", want)
		}
	}
}
