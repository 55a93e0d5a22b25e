// Package etcd is a registry.Store in etcd: a server in this process, or a
// cluster that others run. Every change is on the disk of the server, or of most
// servers of the cluster, when it returns.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/nyxnet/nyx/internal/registry"
)

const (
	// listMost is how many entries are asked for at a time: some megabytes.
	listMost = 256
	// dialTimeout bounds the first connection to a cluster, callTimeout each call
	// without a limit of its own. A fail-over of the cluster takes less.
	dialTimeout = 5 * time.Second
	callTimeout = 10 * time.Second
	// memberTimeout bounds a change by a member: what it has sent to the leader on a
	// connection that breaks is lost without a word, and it would wait for five seconds.
	memberTimeout = time.Second
)

// Store is a registry.Store in etcd.
type Store struct {
	client *clientv3.Client
	prefix string
	stop   func()
	// elected is closed when the cluster has another leader; nil: it is not known.
	elected func() <-chan struct{}
}

// Beside is another store in the same server or cluster, in which all keys begin with
// prefix. It ends with this one, and is not closed itself.
func (s *Store) Beside(prefix string) *Store {
	return &Store{client: s.client, prefix: prefix, stop: func() {}, elected: s.elected}
}

// Files are PEM files for https: who may vouch for the servers, "" for whom the
// system trusts, and the certificate that the servers ask for, "" for none.
type Files struct{ CA, Certificate, Key string }

func (f Files) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		b, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate", f.CA)
		}
	}
	if f.Certificate != "" {
		own, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// Cluster returns a store in the cluster at some URLs, in which all keys begin with
// prefix.
func Cluster(urls []string, prefix string, files Files) (*Store, error) {
	config, err := files.config()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls, DialTimeout: dialTimeout, DialKeepAliveTime: dialTimeout, DialKeepAliveTimeout: dialTimeout,
		TLS: config, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return &Store{client: client, prefix: prefix, stop: func() {}}, nil
}

// Get implements registry.Store.
func (s *Store) Get(ctx context.Context, key string) (registry.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := s.read(ctx, s.prefix+key)
	if err != nil {
		return registry.Entry{}, failed(err)
	}
	if len(resp.Kvs) == 0 {
		return registry.Entry{Key: key}, nil
	}
	return s.entry(resp.Kvs[0]), nil
}

// read reads; where the cluster gets another leader meanwhile, again from that one.
func (s *Store) read(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	for {
		resp, err := s.client.Get(ctx, key, opts...)
		if !errors.Is(err, rpctypes.ErrLeaderChanged) || ctx.Err() != nil {
			return resp, err
		}
	}
}

func (s *Store) entry(kv *mvccpb.KeyValue) registry.Entry {
	e := registry.Entry{Key: string(kv.Key[len(s.prefix):]), Value: kv.Value, Revision: kv.ModRevision}
	if e.Value == nil {
		e.Value = []byte{}
	}
	return e
}

// List implements registry.Store, some entries at a time, all of one revision.
func (s *Store) List(ctx context.Context, prefix string, each func(registry.Entry) error) (int64, error) {
	revision := int64(0)
	from, end := s.prefix+prefix, clientv3.GetPrefixRangeEnd(s.prefix+prefix)
	for {
		page, cancel := context.WithTimeout(ctx, callTimeout)
		resp, err := s.read(page, from, clientv3.WithRange(end), clientv3.WithLimit(listMost), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			return 0, failed(err)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			if err := each(s.entry(kv)); err != nil {
				return 0, err
			}
		}
		if !resp.More {
			return revision, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Put implements registry.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte, was int64) (int64, error) {
	return s.change(ctx, key, was, clientv3.OpPut(s.prefix+key, string(value)))
}

// Fill implements registry.Store.
func (s *Store) Fill(ctx context.Context, entries []registry.Entry) error {
	var none []clientv3.Cmp
	var puts []clientv3.Op
	for _, e := range entries {
		none = append(none, clientv3.Compare(clientv3.ModRevision(s.prefix+e.Key), "=", 0))
		puts = append(puts, clientv3.OpPut(s.prefix+e.Key, string(e.Value)))
	}
	_, err := s.commit(ctx, none, puts)
	return err
}

// Delete implements registry.Store.
func (s *Store) Delete(ctx context.Context, key string, was int64) error {
	_, err := s.change(ctx, key, was, clientv3.OpDelete(s.prefix+key))
	return err
}

func (s *Store) change(ctx context.Context, key string, was int64, op clientv3.Op) (int64, error) {
	unchanged := clientv3.Compare(clientv3.ModRevision(s.prefix+key), "=", was)
	return s.commit(ctx, []clientv3.Cmp{unchanged}, []clientv3.Op{op})
}

func (s *Store) commit(ctx context.Context, unchanged []clientv3.Cmp, then []clientv3.Op) (int64, error) {
	most := callTimeout
	if s.elected != nil {
		most = memberTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	s.untilElection(ctx, cancel)
	resp, err := s.client.Txn(ctx).If(unchanged...).Then(then...).Commit()
	if err != nil {
		return 0, failed(err)
	}
	if !resp.Succeeded {
		return 0, registry.ErrChanged
	}
	return resp.Header.Revision, nil
}

// untilElection ends a call when the cluster gets another leader: what was on its way to
// the one before may be lost. The caller asks again.
func (s *Store) untilElection(ctx context.Context, cancel context.CancelFunc) {
	if s.elected == nil {
		return
	}
	elected := s.elected()
	go func() {
		select {
		case <-elected:
			cancel()
		case <-ctx.Done():
		}
	}()
}

// Watch implements registry.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, each func(registry.Entry)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range s.client.Watch(ctx, s.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if err := resp.Err(); err != nil {
			return failed(err)
		}
		for _, event := range resp.Events {
			e := s.entry(event.Kv)
			if event.Type == clientv3.EventTypeDelete {
				e.Value = nil
			}
			each(e)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("etcd: the watch ended")
}

// Close implements registry.Store.
func (s *Store) Close() error {
	err := s.client.Close()
	s.stop()
	if errors.Is(err, context.Canceled) { // of a client in the server's process
		err = nil
	}
	return err
}

func failed(err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return registry.ErrGap
	}
	return fmt.Errorf("etcd: %w", err)
}
