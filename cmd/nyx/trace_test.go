//go:build linux

package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
	"github.com/nyxnet/nyx/internal/wire"
)

// collects is a collector of OpenTelemetry's protocol: it yields the names of the spans
// of each trace as they come, with the process that sent each.
func collects(t *testing.T) (url string, come chan map[string]string) {
	t.Helper()
	come = make(chan map[string]string, 1000)
	of := map[string]map[string]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			return // metrics, which it takes
		}
		var b []byte
		z, err := gzip.NewReader(r.Body)
		if err == nil {
			b, err = io.ReadAll(z)
		}
		var m collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(b, &m) != nil {
			http.Error(w, "no spans", http.StatusBadRequest)
			return
		}
		for _, resource := range m.ResourceSpans {
			process := resource.Resource.Attributes[1].Value.GetStringValue()
			for _, s := range resource.ScopeSpans[0].Spans {
				trace := string(s.TraceId)
				if of[trace] == nil {
					of[trace] = map[string]string{}
				}
				of[trace][s.Name] = process
				select {
				case come <- of[trace]:
				default:
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(s.Close)
	return s.URL, come
}

// A network of processes is probed: one trace has every step of the specification's
// sequence, in order, put together from the files of two processes, and the collector to
// which they send has it too. What a user does meanwhile is in none.
func TestTraceOfProcesses(t *testing.T) {
	o := &operated{T: t, dir: filepath.Join(t.TempDir(), "network"), temporary: t.TempDir()}
	c := setup.InitConfig{Network: "test", Streams: 2, Mixes: 3, Authorities: 1, Controls: 1, AllowPrivate: true, Probe: 2 * time.Second, Wall: time.Now().Unix()}
	var err error
	if c.Port, err = freePorts(c.Ports()); err != nil {
		t.Fatal(err)
	}
	made, err := setup.Init(o.dir, c)
	if err != nil {
		t.Fatal(err)
	}
	url, come := collects(t)
	ready := map[string]*regexp.Regexp{"authority": regexp.MustCompile(`msg="directory authority"`), "control": regexp.MustCompile(`msg="control process"`)}
	for _, file := range slices.Concat(made.Authorities, made.Controls, made.Streams, made.Mixes) {
		name := filepath.Base(filepath.Dir(file))
		if name == "stream-1" || name == "control-1" {
			b, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, []byte(strings.Replace(string(b), "[telemetry]\n", fmt.Sprintf("[telemetry]\notlp = %q\n", url), 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		p := o.start(name, nil, "node", "--config", file)
		kind, _, _ := strings.Cut(name, "-")
		if line := ready[kind]; line != nil {
			o.await(p, line)
		}
	}
	network, err := setup.LoadNetwork(made.NetworkFile)
	if err != nil {
		t.Fatal(err)
	}
	user, err := daemon.StartProxy(daemon.ProxyConfig{Network: network, Client: client.Config{Level: wire.Fast}, Socks: "127.0.0.1:0", Poll: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	<-user.Client.Ready()
	limit := time.After(2 * patience)
	for whole := false; !whole; {
		select {
		case got := <-come:
			whole = got[string(span.PolicyAccept)] == "control-1" && !slices.ContainsFunc(span.Sequence, func(n span.Name) bool { return got[string(n)] == "" })
		case <-limit:
			out, _ := nyx(t, "trace", "--list", o.dir)
			t.Fatalf("the collector has no whole trace; files have:\n%s", out)
		}
	}
	o.stop()
	var all []shownTrace
	out, err := nyx(t, "trace", "--list", "--json", o.dir)
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s shownTrace) bool { return s.Missing == "" })
	if i < 0 {
		t.Fatalf("no whole trace in %s", out)
	}
	spans, _, err := span.Read(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range span.Traces(spans) {
		if root := trace.Root().Name; root != span.Probe {
			t.Errorf("a trace of %s: a user's?\n%+v", root, trace)
		}
	}
	tree, err := nyx(t, "trace", "--id", all[i].Trace.String(), o.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + tree)
	at := 0
	for _, step := range span.Sequence {
		next := strings.Index(tree[at:], "─ "+string(step))
		if next < 0 {
			t.Fatalf("the tree has no %s in its place:\n%s", step, tree)
		}
		at += next
	}
	if _, err := nyx(t, "trace", "--of", "config", o.dir); err == nil || !strings.Contains(err.Error(), "no trace of a change") {
		t.Errorf("without a change: %v", err)
	}
}
