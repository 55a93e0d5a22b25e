package setup

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/mirror"
)

// replicasMax leaves room for authorities among the servers that are asked.
const replicasMax = query.ServersMax / 2

// cacheMax bounds how long a replica keeps an encoded bucket.
const cacheMax = time.Minute

// MakeReplicaKey makes the key of a replica's certificate in dir, and returns the
// hash by which its clients know it. It never replaces a key.
func MakeReplicaKey(dir string, random io.Reader) (pin [32]byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pin, fmt.Errorf("cannot make the key directory: %w", err)
	}
	var key [front.KeySize]byte
	defer clear(key[:])
	if err := makeSecret(filepath.Join(dir, replicaFile), kindReplica, key[:], random); err != nil {
		return pin, err
	}
	cert, err := front.Issue(&key, time.Now())
	if err != nil {
		return pin, err
	}
	return front.Pin(&cert)
}

// LoadReplicaKey reads the key of a replica's certificate.
func LoadReplicaKey(dir string) (*[front.KeySize]byte, error) {
	var key [front.KeySize]byte
	return &key, readSecret(filepath.Join(dir, replicaFile), kindReplica, key[:])
}

func (d *document) replica(c *Config, f *configFile) {
	r := &c.Replicate
	r.Listen = d.address("replica.listen", f.Replica.Listen)
	if f.Replica.Cache != "" {
		r.Cache = d.duration("replica.cache", f.Replica.Cache, 0, cacheMax)
	}
	if r.CacheServer = f.Replica.Server; r.CacheServer != "" {
		if u, err := url.Parse(r.CacheServer); err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
			d.bad("replica.cache_server", "not a Redis-protocol server. Write redis://host:port or rediss://user:password@host:port")
		} else if r.Cache == 0 {
			d.bad("replica.cache_server", "has no effect without a time in replica.cache. Write cache = \"500ms\", or remove it")
		}
	}
	if len(c.Directories) == 0 {
		d.bad("directory.urls", `missing here and in the network file. Write urls = ["http://host:port"]`)
	}
}

// replicas checks URLs with the hashes of keys.
func (d *document) replicas(key string, urls []string) {
	if len(urls) > replicasMax {
		d.bad(key, "%d replicas, at most %d are asked. Remove some", len(urls), replicasMax)
	}
	for _, u := range urls {
		if s, err := mirror.ParseServer(u); err != nil || !s.Replica {
			d.bad(key, "%q is not a replica. Write https://host:port#HASH, as the replica's log shows it", u)
		}
	}
}

// replicas makes the keys and the configurations of the replicas.
func (g *generator) replicas(dir string) error {
	for i := range g.Replicas {
		at, name := g.place(false), fmt.Sprintf("replica-%d", i+1)
		pin, err := MakeReplicaKey(filepath.Join(g.dir, name, "keys"), g.Random)
		if err != nil {
			return err
		}
		g.network.Replicas = append(g.network.Replicas, mirror.Server{URL: "https://" + at.String(), Pin: pin, Replica: true}.String())
		var b strings.Builder
		g.head(&b, name, []string{"replica"})
		fmt.Fprintf(&b, "\n[replica]\nlisten = %q\n# How long a bucket is kept as it was sent.\ncache = \"500ms\"\n", at)
		g.out.Replicas = append(g.out.Replicas, filepath.Join(dir, name, "node.toml"))
		if err := writeFile(filepath.Join(g.dir, name, "node.toml"), []byte(b.String()), 0o644, false); err != nil {
			return err
		}
	}
	return nil
}
