package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/pipeline/bustest"
	"github.com/nyxnet/nyx/internal/registry/mail"
	"github.com/nyxnet/nyx/internal/registry/storetest"
)

// certified makes a certificate, and returns the files with one of whom it trusts.
func certified(t *testing.T, dir, name string, secret byte) (f Files, certificate []byte) {
	t.Helper()
	certificate, key, err := front.Lasting(&[front.KeySize]byte{31: secret}, name, netip.MustParseAddr("127.0.0.1"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f = Files{CA: filepath.Join(dir, "all.pem"), Certificate: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	for path, b := range map[string][]byte{f.Certificate: certificate, f.Key: key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f, certificate
}

// newMembers are three members who know each other by certificates, of which none runs.
func newMembers(t *testing.T) (all []Member) {
	t.Helper()
	dir := t.TempDir()
	var trusted []byte
	var cluster []string
	for i := range 3 {
		peer, client := freeURL(t), freeURL(t)
		peer.Scheme, client.Scheme = "https", "https"
		m := Member{Name: fmt.Sprint("m", i), Dir: t.TempDir(), Peer: peer.String(), Client: client.String(), Token: "test"}
		var own []byte
		m.Files, own = certified(t, dir, m.Name, byte(i+1))
		trusted = append(trusted, own...)
		cluster, all = append(cluster, m.Name+"="+m.Peer), append(all, m)
	}
	if err := os.WriteFile(filepath.Join(dir, "all.pem"), trusted, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Cluster = strings.Join(cluster, ",")
	}
	return all
}

// startAll starts members side by side: none is ready before most are. Each ends with the
// test, or by its stop.
func startAll(t *testing.T, members []Member) (stores []*Store, stop []func()) {
	t.Helper()
	stores, stop = make([]*Store, len(members)), make([]func(), len(members))
	var starting sync.WaitGroup
	for i, m := range members {
		starting.Go(func() {
			s, err := m.Start(t.Context(), "/nyx/test/")
			if err != nil {
				t.Error(err)
				return
			}
			stores[i], stop[i] = s, sync.OnceFunc(func() { s.Close() })
			t.Cleanup(stop[i])
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return stores, stop
}

// Members over TLS are one store. Who shows no certificate of theirs, or another one, is
// refused by them: as a client, as who looks at a member's port, and as a member.
func TestMembersOverTLS(t *testing.T) {
	members := newMembers(t)
	stores, stop := startAll(t, members)
	storetest.Put(t, stores[0], "kept", "one", 0)
	storetest.Want(t, stores[2], "kept", "one")

	trusted := members[0].Files
	stranger, _ := certified(t, t.TempDir(), "stranger", 9)
	stranger.CA = trusted.CA
	for name, f := range map[string]Files{"none": {CA: trusted.CA}, "a stranger's": stranger, "a member's": trusted} {
		welcome := f == trusted
		client, err := Cluster([]string{members[1].Client, members[2].Client}, "/nyx/test/", f)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if welcome {
			ctx = t.Context()
		}
		e, err := client.Get(ctx, "kept")
		cancel()
		if (err == nil && string(e.Value) == "one") != welcome {
			t.Errorf("a client with the certificate %s: %q, %v", name, e.Value, err)
		}
		client.Close()
		config, err := f.config()
		if err != nil {
			t.Fatal(err)
		}
		if status, err := look(t, members[1].Peer+"/members", config); (err == nil && status == http.StatusOK) != welcome {
			t.Errorf("who looks at a member with the certificate %s: %d, %v", name, status, err)
		}
	}

	// A stranger in the place of a member that is gone: it trusts the others, and has their
	// names and addresses.
	stop[2]()
	wrong := members[2]
	wrong.Dir, wrong.Files = t.TempDir(), stranger
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if s, err := wrong.Start(ctx, "/nyx/test/"); err == nil {
		s.Close()
		t.Error("a stranger is a member")
	}
	storetest.Put(t, stores[0], "after", "two", 0)
	storetest.Want(t, stores[1], "after", "two")
}

func look(t *testing.T, url string, config *tls.Config) (status int, err error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: storetest.Patience}
	defer client.CloseIdleConnections()
	r, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	r.Body.Close()
	return r.StatusCode, nil
}

// The bus of members on the engine that they run.
func TestMail(t *testing.T) {
	s := openEmbedded(t, filepath.Join(t.TempDir(), "etcd"))
	defer s.Close()
	n := 0
	bustest.Run(t, func(t *testing.T, l pipeline.Limits) pipeline.Bus {
		n++
		shared := s.Beside(fmt.Sprintf("/nyx/mail%d/", n))
		b, err := mail.Open(t.Context(), mail.Config{Store: shared, Office: shared, Name: "m", Members: []string{"m"}, Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	})
}
