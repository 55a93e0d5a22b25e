//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/engine/bus"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// What nobody on the operator's side may have: who asks, from where, for what, and what
// is said.
const (
	plantedUser, plantedPassword = "alice-planted-7f3a", "swordfish-planted-61d0"
	plantedOther                 = "bob-planted-2c9e"
	plantedTarget                = "zebra-target-91c2"
	plantedRefusing              = "refusing-target-55ab"
	plantedUnknown               = "unknown-target-e3f8"
	plantedResetting             = "resetting-target-0b6d"
	plantedPath                  = "quagga-path-4f17"
	plantedRequest               = "planted-question-c0de77"
	plantedAnswer                = "planted-answer-ab12ef"
	plantedClientAt              = "127.77.3.9"
	plantedTargetAt              = "127.88.1.7"
)

// What it may have, and what the search must therefore find: a node's name and the name
// of who reads the log. The others are planted in what is kept.
const (
	knownNode    = "okapi-node-4d7b"
	knownAuditor = "heron-auditor-8e20"
	knownMessage = "ibis-message-93fa"
	knownSetting = "tapir-setting-0c51"
	knownRecord  = "gecko-record-b27e-0123456789abcd" // as long as a token's hash
	knownFile    = "civet-file-6d08"
	knownLine    = "lemur-line-f419"
)

// nameServer resolves the planted names to the planted address, but for the unknown one.
func nameServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			switch {
			case !strings.Contains(q.Name.String(), "target") || strings.HasPrefix(q.Name.String(), plantedUnknown):
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
				m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: netip.MustParseAddr(plantedTargetAt).As4()}}}
			}
			if out, err := m.Pack(); err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// targets are what the planted names lead to: plain and over TLS, one that resets, one
// that refuses, and one that answers datagrams.
type targets struct{ plain, secure, resetting, refusing, echo netip.AddrPort }

func plantTargets(t *testing.T) (at targets) {
	t.Helper()
	listen := func() (net.Listener, netip.AddrPort) {
		ln, err := net.Listen("tcp", plantedTargetAt+":0")
		if err != nil {
			t.Fatal(err)
		}
		return ln, netip.MustParseAddrPort(ln.Addr().String())
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s to %s", plantedAnswer, b)
	})
	plain, secure := httptest.NewUnstartedServer(handler), httptest.NewUnstartedServer(handler)
	plain.Listener.Close()
	secure.Listener.Close()
	plain.Listener, at.plain = listen()
	secure.Listener, at.secure = listen()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain.Start()
	secure.StartTLS()
	t.Cleanup(func() { plain.Close(); secure.Close() })
	var resetting, refusing net.Listener
	resetting, at.resetting = listen()
	refusing, at.refusing = listen()
	refusing.Close()
	t.Cleanup(func() { resetting.Close() })
	at.echo = answerDatagrams(t)
	go func() {
		for {
			c, err := resetting.Accept()
			if err != nil {
				return
			}
			c.(*net.TCPConn).SetLinger(0)
			c.Read(make([]byte, 1))
			c.Close()
		}
	}()
	return at
}

// operate starts a network as an operator does who wants to see all there is: at debug
// level, with metrics of traffic, session records and governance.
func operate(t *testing.T, people *people) (o *operated, network *setup.Network, api string) {
	o = &operated{T: t, dir: filepath.Join(t.TempDir(), "network"), temporary: t.TempDir(), metrics: map[string]string{}}
	o.control = filepath.Join(o.dir, "control-1", "keys")
	c := setup.InitConfig{Network: "test", Streams: 2, Mixes: 3, Authorities: 1, Controls: 1, Witnesses: 1, PSK: true, Passes: true, Carriers: true, AllowPrivate: true, Wall: time.Now().Unix()}
	ports := c.Ports()
	var err error
	if c.Port, err = freePorts(2*ports + 1); err != nil {
		t.Fatal(err)
	}
	made, err := setup.Init(o.dir, c)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(path string, pairs ...string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(b))), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	edit(filepath.Join(o.dir, "members.txt"), "mix-3", knownNode)
	edit(made.Mixes[2], `name = "mix-3"`, `name = "`+knownNode+`"`)
	edit(made.Controls[0], "[control]\n", fmt.Sprintf("[control]\ngovernance = \"127.0.0.1:%d\"\npeople = %q\n", int(c.Port)+2*ports, people.file))
	for _, file := range made.Streams {
		edit(file, "[log]", "[records]\nstore = \"sqlite:../records.db\"\n\n[telemetry]\ntraces = true\nprobe = \"5s\"\n\n[log]")
	}
	for _, file := range append(made.Mixes, made.Controls...) {
		edit(file, "[log]", "[telemetry]\ntraces = true\n\n[log]")
	}
	edit(made.NetworkFile, "required = true", "required = false") // probes have no tokens
	env := []string{resolverVar + "=" + nameServer(t)}
	ready := map[string]*regexp.Regexp{
		"authority": regexp.MustCompile(`msg="directory authority"`), "witness": regexp.MustCompile(`msg=witness`), "control": regexp.MustCompile(`msg="control process"`),
		"stream": regexp.MustCompile(`traffic can flow`), "mix": regexp.MustCompile(`traffic can flow`),
	}
	nodes := map[*spoken]*regexp.Regexp{}
	for i, files := range [][]string{made.Authorities, made.Witnesses, made.Controls, made.Streams, made.Mixes} {
		for _, file := range files {
			name := filepath.Base(filepath.Dir(file))
			at := fmt.Sprintf("127.0.0.1:%d", int(c.Port)+ports+len(o.metrics))
			edit(file, `level = "info"`, "level = \"debug\"\n\n[metrics]\nlisten = \""+at+"\"\ntraffic = true")
			o.metrics[name] = at
			p := o.start(name, env, "node", "--config", file)
			kind, _, _ := strings.Cut(name, "-")
			if nodes[p] = ready[kind]; i < 3 {
				o.await(p, ready[kind])
			}
			if kind == "control" {
				api = o.await(p, regexp.MustCompile(`msg="governance API" .*url="?([^" \n]+)`))
			}
		}
	}
	for p, line := range nodes {
		o.await(p, line)
	}
	if network, err = setup.LoadNetwork(made.NetworkFile); err != nil {
		t.Fatal(err)
	}
	return o, network, api
}

// use does with a network what its users do, through the front door: what works and what
// fails, by SOCKS5 and by HTTP, each under a name of its own.
func use(t *testing.T, front string, at targets) {
	for scheme, user := range map[string]string{"socks5h": plantedUser, "http": plantedOther} {
		request(t, front, scheme, user, plantedURL("http", plantedTarget, at.plain.Port()), plantedAnswer)
		request(t, front, scheme, user, plantedURL("https", plantedTarget, at.secure.Port()), plantedAnswer) // by HTTP: CONNECT
		request(t, front, scheme, user, "http://"+at.plain.String(), plantedAnswer)
		request(t, front, scheme, user, plantedURL("http", plantedRefusing, at.refusing.Port()), "")
		request(t, front, scheme, user, plantedURL("http", plantedUnknown, at.plain.Port()), "")
		request(t, front, scheme, user, plantedURL("http", plantedResetting, at.resetting.Port()), "")
	}
}

func plantedURL(scheme, name string, port uint16) string {
	return scheme + "://" + name + ".test:" + strconv.Itoa(int(port))
}

// request asks a target for something through the front door; want is what it answers, ""
// that it does not.
func request(t *testing.T, front, scheme, user, target, want string) {
	t.Helper()
	proxy := &url.URL{Scheme: scheme, Host: front, User: url.UserPassword(user, plantedPassword)}
	web := &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r, err := web.Post(target+"/"+plantedPath+"?q="+plantedRequest, "text/plain", strings.NewReader(plantedRequest))
	if err != nil {
		if want != "" {
			t.Errorf("%s to %s: %v", scheme, target, err)
		}
		return
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); want != "" && !strings.Contains(string(b), want) || want == "" && r.StatusCode == http.StatusOK {
		t.Errorf("%s to %s: %s, %.200q", scheme, target, r.Status, b)
	}
}

// People with planted names ask a network for planted names, at debug level, and all that
// its operator has is searched: no log, file, table, event, message, setting, metric or
// answer has a name, in any form. What the operator may know, and what is planted there,
// the same search finds in each kind of place.
func TestOperatorHasNoNames(t *testing.T) {
	people := newPeople(t)
	o, network, api := operate(t, people)
	at := plantTargets(t)
	clients, sendsFrom, tokens := startPlanted(t, network)
	useAll(t, clients, at)
	secrets := []needle{addressNeedle(at.plain), addressNeedle(at.secure), addressNeedle(at.resetting), addressNeedle(at.refusing), addressNeedle(at.echo)}
	for _, a := range sendsFrom.all() {
		secrets = append(secrets, addressNeedle(a))
	}
	for _, s := range []string{
		plantedUser, plantedPassword, plantedOther, plantedTarget, plantedTarget + ".test", plantedRefusing, plantedRefusing + ".test", plantedUnknown, plantedUnknown + ".test",
		plantedResetting, plantedResetting + ".test", plantedPath, plantedRequest, plantedAnswer, plantedClientAt, plantedTargetAt, at.plain.String(), at.secure.String(), at.echo.String(),
	} {
		secrets = append(secrets, needleOf(s))
	}

	certificate, key := people.files(knownAuditor, "auditor")
	who := []string{"--api", api, "--certificate", certificate, "--certificate-key", key}
	o.answers(who)
	running := append(append(append(append(o.answers(who), o.console()...), o.pages()...), o.logs()...), o.files()...)
	for _, client := range clients {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	running = append(running, o.pages()...)
	o.stop()
	stopped := append(o.kept(), o.copies()...)
	for _, found := range unlinkable(t, hits(append(running, stopped...), append(secrets, tagNeedles(tokens)...))) {
		t.Error("the operator has a name: " + found)
	}
	searched(t, running, stopped)
	if !slices.ContainsFunc(running, func(p place) bool {
		return strings.HasSuffix(p.name, span.FileName) && bytes.Contains(p.content, []byte(span.PolicyCheck))
	}) {
		t.Error("no trace was there to be searched")
	}

	wantHits(t, append(running, stopped...), map[string]string{
		knownNode: "log metrics event table answer copy", knownAuditor: "event table answer page copy",
	})
	o.plant()
	wantHits(t, o.kept(), map[string]string{
		knownMessage: "message file", knownSetting: "setting file", knownRecord: "table file", knownFile: "file", knownLine: "log",
	})
}

// plant puts names where the operator keeps things, by the engines that keep them.
func (o *operated) plant() {
	o.onBus(func(ctx context.Context, b *bus.Bus) error {
		_, err := b.Publish(ctx, pipeline.Ordinary, pipeline.Message{ID: [16]byte{1}, Payload: []byte(knownMessage)})
		return err
	})
	o.onSettings(func(ctx context.Context, s *etcd.Store) error {
		_, err := s.Put(ctx, "planted", []byte(knownSetting), 0)
		return err
	})
	records, err := openRecords(filepath.Join(o.dir, "records.db"))
	if err != nil {
		o.Fatal(err)
	}
	r := control.SessionRecord{Version: 1, Expires: time.Now().Unix() + 3600}
	copy(r.Token[:], knownRecord)
	if _, err := records.Create(o.Context(), []control.SessionRecord{r}, time.Now().Unix()); err != nil {
		o.Error(err)
	}
	if err := records.Close(); err != nil {
		o.Error(err)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "mix-1", "keys", "planted"), []byte(knownFile), 0o600); err != nil {
		o.Error(err)
	}
	<-o.start("planted", nil, "node", "--config", filepath.Join(o.dir, knownLine)).ended // which says that there is no such file
}

// searched says how much was searched, and fails where a kind of place has nothing.
func searched(t *testing.T, running, stopped []place) {
	t.Helper()
	places, size := map[string]int{}, map[string]int{}
	for _, p := range append(running, stopped...) {
		places[p.kind]++
		size[p.kind] += len(p.content)
	}
	for _, kind := range []string{"log", "file", "table", "event", "setting", "metrics", "answer", "page", "copy"} {
		if size[kind] == 0 {
			t.Errorf("there is no %s to be searched", kind)
		}
		t.Logf("%s: %d places, %d bytes", kind, places[kind], size[kind])
	}
}

// wantHits holds the search to what it must find, by the kinds of place.
func wantHits(t *testing.T, places []place, want map[string]string) {
	t.Helper()
	for name, kinds := range want {
		found := hits(places, []needle{needleOf(name)})
		for kind := range strings.FieldsSeq(kinds) {
			seen := false
			for _, f := range found {
				seen = seen || strings.HasPrefix(f, kind+" ")
			}
			if !seen {
				t.Errorf("the search finds %q in no %s, only in %q", name, kind, found)
			}
		}
	}
}
