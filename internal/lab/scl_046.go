package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/engine/cache"
	"github.com/nyxnet/nyx/internal/mirror"
)

// cachedBytes is room for two hundred buckets.
const cachedBytes = 32 << 20

// lookupsUncached is SCL-046: a replica whose cache is off answers look-ups of
// nodes in a big network, over its own server. Each is counted until the nodes
// are verified.
func lookupsUncached(r *Run) error {
	source := r.Source("directory")
	d, err := newBigDirectory(source, int(r.Param("nodes")))
	if err != nil {
		return err
	}
	kept, err := cache.NewLocal(cachedBytes)
	if err != nil {
		return err
	}
	defer kept.Close()
	shelf := &mirror.Shelf{Cache: kept, TTL: r.Duration("cache_ttl_ms", time.Millisecond)}
	shelf.Put(d.Document)
	client, url, stop, err := serveReplica(shelf)
	if err != nil {
		return err
	}
	defer stop()
	look := func(place int) error { return lookBucket(client, url, d, place) }
	lookups := r.Scaled("lookups")
	if !r.Protected {
		look, lookups = func(int) error { return lookWhole(client, url, d) }, min(lookups, int(r.Param("control_lookups")))
	}
	if err := look(0); err != nil { // the connection
		return err
	}
	draw := source.Stream("lookups")
	gap := time.Duration(float64(time.Second) / r.Param("lookups_per_second"))
	took, failed := make([]time.Duration, lookups), atomic.Int64{}
	turn := make(chan struct{}, int(r.Param("clients")))
	var looking sync.WaitGroup
	begun := time.Now()
	for i := range lookups {
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		place := draw.IntN(d.Buckets)
		turn <- struct{}{}
		looking.Go(func() {
			if look(place) != nil {
				failed.Add(1)
			}
			took[i] = time.Since(due) // with what the generator is late
			<-turn
		})
	}
	looking.Wait()
	offered := float64(lookups) / time.Since(begun).Seconds()
	for _, t := range took {
		r.ObserveTime("directory_lookup_latency", t)
	}
	r.Tally("lookup_failed", uint64(failed.Load()), uint64(lookups))
	served := shelf.Lookups()
	r.Note("%d look-ups at %.0f a second in %d buckets; the server itself needs %d µs at the 95th of 100", lookups, offered, d.Buckets, served.Quantile(0.95))
	return nil
}

// serveReplica serves a shelf as a replica does, on this machine.
func serveReplica(shelf *mirror.Shelf) (client *http.Client, url string, stop func(), err error) {
	key := &[front.KeySize]byte{46}
	cert, err := front.Issue(key, time.Now())
	if err != nil {
		return nil, "", nil, err
	}
	pin, err := front.Pin(&cert)
	if err != nil {
		return nil, "", nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	mux := http.NewServeMux()
	shelf.Register(mux, true)
	server := mirror.NewServer(mux)
	go mirror.Serve(server, ln, key, nil)
	at := mirror.Server{URL: "https://" + ln.Addr().String(), Pin: pin, Replica: true}
	clients, err := mirror.Clients([]mirror.Server{at})
	if err != nil {
		server.Close()
		return nil, "", nil, err
	}
	return clients[0], at.URL, func() { clients[0].CloseIdleConnections(); server.Close() }, nil
}

func getAll(client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the replica answers %s", resp.Status)
	}
	return b, err
}

func lookBucket(client *http.Client, url string, d *bigDirectory, place int) error {
	b, err := getAll(client, fmt.Sprintf("%s%s%s/%d", url, mirror.BucketPath, mirror.Name(d.Document), place))
	if err != nil {
		return err
	}
	_, err = directory.ParseBucket(b, &d.Header)
	return err
}

// lookWhole is the control: a node is found in the whole document.
func lookWhole(client *http.Client, url string, d *bigDirectory) error {
	b, err := getAll(client, url+mirror.DocumentPath)
	if err != nil {
		return err
	}
	_, err = directory.Verify(b, &d.Trust, d.Wall)
	return err
}
