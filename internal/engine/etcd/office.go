package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// leaseSeconds is how long the lease of an office lives without its holder: the least
// that a server with ticks of 20 and 200 ms grants.
const leaseSeconds = 1

const officePrefix = "office/"

// Hold implements registry.Office: the office is the oldest key below its name, each
// under a lease that ends with its process.
func (s *Store) Hold(ctx context.Context, office, who string, serve func(term context.Context)) error {
	lease, err := s.client.Grant(ctx, leaseSeconds)
	if err != nil {
		return failed(err)
	}
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(leaseSeconds), concurrency.WithLease(lease.ID))
	if err != nil {
		return failed(err)
	}
	defer session.Close()
	term, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(session.Ctx(), end)()
	election := concurrency.NewElection(session, s.prefix+officePrefix+office)
	if err := election.Campaign(term, who); err != nil {
		return fmt.Errorf("etcd: no office: %w", err)
	}
	serve(term)
	return ctx.Err()
}

// Holder implements registry.Office.
func (s *Store) Holder(ctx context.Context, office string) (string, error) {
	resp, err := s.client.Get(ctx, s.prefix+officePrefix+office+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", failed(err)
	}
	if len(resp.Kvs) == 0 {
		return "", nil
	}
	return string(resp.Kvs[0].Value), nil
}
