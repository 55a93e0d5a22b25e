package setup

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// A Stream node probes as often as its configuration says, and not at all without it;
// what makes no sense is refused, and what nyx network init writes is taken.
func TestConfigTelemetry(t *testing.T) {
	dir := testFiles(t)
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(goodConfig))
	if err != nil || c.Telemetry != (TelemetryConfig{ProbeLevel: wire.Standard}) {
		t.Errorf("without the table: %+v, %v", c.Telemetry, err)
	}
	c, err = parseConfig(path, []byte(goodConfig+"[telemetry]\nprobe = \"1m\"\nprobe_level = \"fast\"\ntraces = true\notlp = \"https://collector:4318\"\n"))
	if err != nil || c.Telemetry != (TelemetryConfig{Probe: time.Minute, ProbeLevel: wire.Fast, Traces: true, OTLP: "https://collector:4318"}) {
		t.Errorf("%+v, %v", c.Telemetry, err)
	}
	for _, here := range []string{"http://127.0.0.1:4318", "http://[::1]:4318", "http://localhost:4318"} {
		if c, err := parseConfig(path, []byte(goodConfig+"[telemetry]\notlp = \""+here+"\"\n")); err != nil || c.Telemetry.OTLP != here {
			t.Errorf("%s: %v", here, err)
		}
	}
	for _, wrong := range [][2]string{
		{`probe = "1ms"`, `telemetry.probe: "1ms" is not a duration from 1s to 24h0m0s`},
		{`probe_level = "loud"`, `telemetry.probe_level: "loud" is not a level`},
		{`otlp = "collector:4318"`, `telemetry.otlp: "collector:4318" is not a URL of a collector`},
		{`otlp = "http://user:word@collector"`, `telemetry.otlp: `},
		{`otlp = "http://collector:4318"`, `telemetry.otlp: "http://collector:4318" would get telemetry in the clear. Write https://`},
		{`otlp = "http://192.0.2.1:4318"`, `would get telemetry in the clear`},
	} {
		if _, err := parseConfig(path, []byte(goodConfig+"[telemetry]\n"+wrong[0]+"\n")); err == nil || !strings.Contains(err.Error(), wrong[1]) {
			t.Errorf("%s: %v", wrong[0], err)
		}
	}
	mix := strings.Replace(goodConfig, `roles = ["entry", "exit"]`, `roles = ["mix"]`, 1) + "[telemetry]\nprobe = \"1m\"\n"
	if _, err := parseConfig(path, []byte(mix)); err == nil || !strings.Contains(err.Error(), "telemetry.probe: only a Stream node with the role entry probes") {
		t.Errorf("at a Mix node: %v", err)
	}
	init := InitConfig{Network: "test", Streams: 2, Mixes: 3, Authorities: 1, Controls: 1, Probe: time.Minute}
	made, err := Init(filepath.Join(dir, "network"), init)
	if err != nil {
		t.Fatal(err)
	}
	for file, probe := range map[string]time.Duration{made.Streams[1]: time.Minute, made.Mixes[0]: 0, made.Controls[0]: 0} {
		if c, err := LoadConfig(file); err != nil || !c.Telemetry.Traces || c.Telemetry.Probe != probe {
			t.Errorf("%s: %+v, %v", file, c.Telemetry, err)
		}
	}
	init.Passes = true
	if _, err := Init(filepath.Join(dir, "tokens"), init); err == nil || !strings.Contains(err.Error(), "probes have no unlinkable tokens") {
		t.Errorf("with tokens: %v", err)
	}
	init.Passes, init.Probe = false, time.Millisecond
	if _, err := Init(filepath.Join(dir, "often"), init); err == nil || !strings.Contains(err.Error(), "1s to 24h0m0s are possible") {
		t.Errorf("too often: %v", err)
	}
}
