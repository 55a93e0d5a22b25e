package setup

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/secret"
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
	if err != nil || c.Telemetry != (TelemetryConfig{Probe: time.Minute, ProbeLevel: wire.Fast, Traces: true, Push: Push{OTLP: "https://collector:4318", SpoolBytes: 256 << 20}}) {
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
		{`remote_write = "http://prometheus/api/v1/write"`, `telemetry.remote_write: "http://prometheus/api/v1/write" would get telemetry in the clear`},
		{`remote_write_token = "token"`, `telemetry.remote_write_token: has no effect without telemetry.remote_write`},
		{"remote_write = \"https://prometheus/api/v1/write\"\nremote_write_token = \"secret://remote\"", `telemetry.remote_write_token: "secret://remote" is a reference, and there is no [secrets]`},
		{`spool_megabytes = 9`, `telemetry.spool_megabytes: bounds what waits`},
		{"otlp = \"https://collector\"\nspool_megabytes = -1", `telemetry.spool_megabytes: -1 is out of range`},
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

// What is pushed, with what token and with how much room: as the configuration says.
func TestConfigPush(t *testing.T) {
	path := filepath.Join(testFiles(t), "node.toml")
	pushed := func(more string) Push {
		t.Helper()
		c, err := parseConfig(path, []byte(goodConfig+more))
		if err != nil {
			t.Fatal(err)
		}
		return c.Telemetry.Push
	}
	const to = "[telemetry]\nremote_write = \"https://prometheus/api/v1/write\"\n"
	url := "https://prometheus/api/v1/write"
	if p := pushed(to + "remote_write_token = \"token\"\n"); p != (Push{RemoteWrite: url, TokenFile: filepath.Join(filepath.Dir(path), "token"), SpoolBytes: 256 << 20}) {
		t.Errorf("%+v", p)
	}
	const bare = "name = \"c\"\nroles = [\"client\"]\nnetwork = \"network.toml\"\n" // without keys there is no directory
	if _, err := parseConfig(path, []byte(bare+to+"spool_megabytes = 8\n")); err == nil || !strings.Contains(err.Error(), "telemetry.spool_megabytes: there is no directory to keep it in") {
		t.Errorf("%v", err)
	}
	for _, fine := range []string{"", "spool_megabytes = 0\n"} {
		if _, err := parseConfig(path, []byte(bare+to+fine)); err != nil {
			t.Error(err)
		}
	}
	if c, err := parseConfig(path, []byte("state = \"state\"\n"+goodConfig+to+"spool_megabytes = 8\n")); err != nil || c.Telemetry.SpoolBytes != 8<<20 {
		t.Errorf("%+v, %v", c, err)
	}
	if p := pushed(to + "spool_megabytes = 0\n"); p != (Push{RemoteWrite: url}) {
		t.Errorf("%+v", p)
	}
	if p := pushed(to + "remote_write_token = \"secret://remote\"\n[secrets]\nstore = \"https://vault:8200\"\nrole_id = \"nyx\"\nsecret_id_file = \"id\"\n"); p != (Push{RemoteWrite: url, TokenName: "remote", SpoolBytes: 256 << 20}) {
		t.Errorf("%+v", p)
	}
}

// The key under which telemetry is kept is made once, for its owner alone, in a directory and
// in a store.
func TestSpoolKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := LoadOrMakeSpoolKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadOrMakeSpoolKey(dir); err != nil || *again != *first {
		t.Errorf("another key: %v", err)
	}
	path := filepath.Join(dir, spoolKeyFile)
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	stored := &StoredKeys{Store: secret.NewMemory(), Name: "mix-1"}
	if first, err = stored.Spool(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := stored.Spool(t.Context()); err != nil || *again != *first {
		t.Errorf("another key in the store: %v", err)
	}
}
