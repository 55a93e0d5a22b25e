package etcd

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/storetest"
)

func openEmbedded(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Embedded(dir, "/nyx/test/")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbedded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := openEmbedded(t, dir)
	storetest.Run(t, s)
	storetest.RunRegistry(t, s)
	storetest.RunChanges(t, s)
	storetest.RunOffice(t, s, s)
	was := storetest.Put(t, s, "kept", "here", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openEmbedded(t, dir)
	defer s.Close()
	if e := storetest.Want(t, s, "kept", "here"); e.Revision != was {
		t.Errorf("revision %d after the restart, %d before", e.Revision, was)
	}
}

// member is a server of a cluster.
type member struct {
	*embed.Etcd
	client string // its URL
}

// startCluster starts a cluster of three on this machine.
func startCluster(t *testing.T) (members []member) {
	t.Helper()
	var configs []*embed.Config
	var all []string
	for i := range 3 {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = fmt.Sprintf("m%d", i), t.TempDir()
		peer, client := freeURL(t), freeURL(t)
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		all = append(all, cfg.InitialClusterFromName(cfg.Name))
		configs = append(configs, cfg)
	}
	for _, cfg := range configs {
		cfg.InitialCluster = strings.Join(all, ",")
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, member{e, cfg.ListenClientUrls[0].String()})
	}
	for _, m := range members {
		<-m.Server.ReadyNotify()
	}
	return members
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return url.URL{Scheme: "http", Host: ln.Addr().String()}
}

// TestCluster: the same store in a cluster, of which the leader is killed. A watch
// and the changes of another process go on.
func TestCluster(t *testing.T) {
	members := startCluster(t)
	var urls []string
	for _, m := range members {
		urls = append(urls, m.client)
	}
	defer func() {
		for _, m := range members {
			m.Close()
		}
	}()
	s, err := Cluster(urls, "/nyx/test/", Files{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Run(t, s)
	storetest.RunRegistry(t, s)
	storetest.RunChanges(t, s)
	was := storetest.Put(t, s, "kept", "one", 0)

	other, err := Cluster(urls, "/nyx/test/", Files{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithTimeout(t.Context(), storetest.Patience)
	defer cancel()
	seen, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- other.Watch(ctx, "kept", was, func(e registry.Entry) { seen <- string(e.Value) })
	}()
	leader := max(0, slices.IndexFunc(members, func(m member) bool { return m.Server.Leader() == m.Server.MemberID() }))
	members[leader].Server.HardStop() // without a word to the others
	members[leader].Close()
	members = slices.Delete(members, leader, leader+1)
	storetest.Want(t, s, "kept", "one")
	storetest.Put(t, s, "kept", "two", was)
	select {
	case value := <-seen:
		if value != "two" {
			t.Errorf("the other process saw %q", value)
		}
	case err := <-ended:
		t.Fatalf("the watch ended: %v", err)
	}
	storetest.Want(t, other, "kept", "two")
}
