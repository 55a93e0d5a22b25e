package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/lab/servers/serverstest"
	"github.com/nyxnet/nyx/internal/setup"
)

// A configured control process copies its log; the copy is verified and the log is
// restored from it by commands, after somebody with the access key has tried to spoil
// it.
func TestLockedCopy(t *testing.T) {
	s := serverstest.S3(t)
	dir := filepath.Join(networkFiles(t, 1), "control-1")
	secret := filepath.Join(dir, "s3.secret")
	if err := os.WriteFile(secret, []byte(s.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	configure(t, dir, fmt.Sprintf("copies = \"s3://locked/control-1\"\ncopies_server = %q\ncopies_key_id = %q\ncopies_secret = \"s3.secret\"\ncopies_days = 2\n", s.URL, s.KeyID))
	for range 2 { // what one life signs at its end the next one copies
		log, stop := runControl(t, dir)
		log.await(t, "start", func(e *audit.Event) bool { return e.Action == "start" })
		stop()
	}
	flags := []string{"--from", "s3://locked/control-1", "--server", s.URL, "--access-key", s.KeyID, "--secret-file", secret}
	keys := filepath.Join(dir, "keys", auditDir, auditKeysDir)
	wantAudit(t, "objects are locked, the first until", append([]string{"verify", "--keys", keys}, flags...)...)

	b, err := s.Bucket("locked")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	objects, err := b.List(t.Context(), "control-1/")
	if err != nil || len(objects) < 3 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for _, o := range objects {
		if strings.Contains(o.Key, "sign.key") || strings.Contains(o.Key, "wrap.key") {
			t.Errorf("the copy has the key %s", o.Key)
		}
		if s.Ask(t.Context(), http.MethodDelete, "locked/"+o.Key, "versionId="+o.Version, nil, nil) == nil {
			t.Errorf("%s was removed", o.Key)
		}
		s.Ask(t.Context(), http.MethodPut, "locked/"+o.Key, "", nil, []byte("forged"))
	}
	out := wantAudit(t, "", append([]string{"verify", "--json", "--keys", keys}, flags...)...)
	var got struct {
		Entries, Unsigned int64
		Copy              struct{ Objects, Locked, Put_upon int }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Entries == 0 || got.Unsigned != 0 || got.Copy.Objects != len(objects) || got.Copy.Locked != len(objects) || got.Copy.Put_upon < len(objects) {
		t.Errorf("%s: %+v, %v", out, got, err)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	wantAudit(t, "change nothing", append([]string{"restore", "--out", restored}, flags...)...)
	wantAudit(t, fmt.Sprintf("ok: %d events", got.Entries), "verify", "--dir", restored, "--keys", keys)

	// What is locked for two days is not for three; and a part without a lock is found,
	// although the log of it verifies, until the next life of the process locks it.
	wantUnlocked := func(args ...string) {
		t.Helper()
		out, err := nyx(t, append(append([]string{"audit", "verify", "--keys", keys}, args...), flags...)...)
		if err == nil || !strings.Contains(err.Error(), "not locked for as long as they should be") || strings.Contains(err.Error(), "\n") {
			t.Errorf("verify %v: %s, %v", args, out, err)
		}
	}
	wantAudit(t, "ok: ", append([]string{"verify", "--days", "2", "--keys", keys}, flags...)...)
	wantUnlocked("--days", "3")
	key, err := os.ReadFile(filepath.Join(dir, "keys", auditDir, "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ask(t.Context(), http.MethodPut, "locked/control-1/log.key/000000000001", "", nil, key[1:]); err != nil {
		t.Fatal(err)
	}
	wantUnlocked()
	wantUnlocked("--json")
	_, stop := runControl(t, dir)
	stop()
	wantAudit(t, "ok: ", append([]string{"verify", "--days", "2", "--keys", keys}, flags...)...)

	for want, args := range map[string]string{
		"not empty":           "restore --out " + restored,
		"--keys is missing":   "verify",
		"s3://BUCKET/PREFIX":  "verify --keys " + keys + " --from here",
		"make the bucket":     "verify --keys " + keys + " --from s3://absent",
		"no copy of an audit": "verify --keys " + keys + " --from s3://locked/other",
		"in the clear":        "verify --keys " + keys + " --server http://s3.example",
	} {
		words := strings.Fields("audit " + args)
		for i := 0; i < len(flags); i += 2 {
			if !strings.Contains(args, flags[i]+" ") {
				words = append(words, flags[i], flags[i+1])
			}
		}
		if _, err := nyx(t, words...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// configure adds keys to the table [control] of a control process's configuration.
func configure(t *testing.T, dir, keys string) {
	t.Helper()
	path := filepath.Join(dir, "node.toml")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(b), "[control]\n", "[control]\n"+keys, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A control process does not start upon a bucket in which nothing can be locked.
func TestUnlockedBucket(t *testing.T) {
	s := serverstest.S3(t)
	dir := filepath.Join(networkFiles(t, 1), "control-1")
	if err := os.WriteFile(filepath.Join(dir, "s3.secret"), []byte(s.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	configure(t, dir, fmt.Sprintf("copies = \"s3://open/control-1\"\ncopies_server = %q\ncopies_key_id = %q\ncopies_secret = \"s3.secret\"\n", s.URL, s.KeyID))
	cfg, err := setup.LoadConfig(filepath.Join(dir, "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	err = daemon.Run(t.Context(), cfg, nil, nil, servers, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "make a bucket with object lock") || strings.Contains(err.Error(), "\n") {
		t.Errorf("it says %v", err)
	}
}
