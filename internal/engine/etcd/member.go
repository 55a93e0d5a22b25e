package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

const (
	// memberTick and memberElection are the times of a cluster whose members are near
	// each other: without a leader it has another after 0.2 to 0.4 s.
	memberTick     = 20  // ms
	memberElection = 200 // ms
)

// Member is a server of a cluster.
type Member struct {
	Name, Dir string
	// Peer and Client are the URLs at which it listens for other members and for
	// clients; no Client is a member that only its own process speaks to.
	Peer, Client string
	// Cluster is all members, as in "a=http://127.0.0.1:2380,b=http://…", and Token is
	// theirs alone, so that none of them joins another cluster by mistake; "" is etcd's.
	Cluster, Token string
	// Files are for https: who does not show a certificate that CA vouches for is
	// refused, member or client.
	Files Files
}

// Start runs the member, and returns when the cluster has a leader, or with an error when
// ctx ends before. In the store all keys begin with prefix.
func (m Member) Start(ctx context.Context, prefix string) (*Store, error) {
	cfg, err := m.config()
	if err != nil {
		return nil, fmt.Errorf("etcd: member %s: %w", m.Name, err)
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("etcd: member %s cannot start: %w", m.Name, err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startTimeout):
		err = fmt.Errorf("it has not heard of most of the members in %v; start the others, and see that they reach each other", startTimeout)
	}
	if err != nil {
		server.Server.HardStop() // Close alone waits for a server of clients, which waits for a leader
		server.Close()
		return nil, fmt.Errorf("etcd: member %s cannot start: %w", m.Name, err)
	}
	return &Store{client: v3client.New(server.Server), prefix: prefix, stop: server.Close, elected: server.Server.LeaderChangedNotify}, nil
}

func (m Member) config() (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = m.Name, m.Dir, m.Cluster
	if m.Token != "" {
		cfg.InitialClusterToken = m.Token
	}
	peer, err := url.Parse(m.Peer)
	if err != nil {
		return nil, err
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil
	if m.Client != "" {
		client, err := url.Parse(m.Client)
		if err != nil {
			return nil, err
		}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	}
	// A member is told by its certificate, not by the address from which it comes: that is
	// another one behind a gateway.
	peers := &cfg.PeerTLSInfo
	peers.CertFile, peers.KeyFile, peers.TrustedCAFile = m.Files.Certificate, m.Files.Key, m.Files.CA
	peers.ClientCertAuth, peers.SkipClientSANVerify = m.Files.CA != "", true
	cfg.ClientTLSInfo, cfg.TlsMinVersion = cfg.PeerTLSInfo, "TLS1.3"
	cfg.TickMs, cfg.ElectionMs = memberTick, memberElection
	cfg.QuotaBackendBytes, cfg.MaxRequestBytes = quota, requestMost
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, historyKept
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return cfg, nil
}

// memberEnv has a process be a Member, in JSON, and nothing else: scenarios and tests
// run clusters of processes that they kill.
const memberEnv = "NYX_ETCD_MEMBER"

// Environment is what the process of a member is started with.
func (m Member) Environment() string {
	b, err := json.Marshal(m)
	if err != nil {
		panic("etcd: a member that does not encode: " + err.Error())
	}
	return memberEnv + "=" + string(b)
}

// OfficeOfMembers is what processes of members stand for.
const OfficeOfMembers = "leader"

// RunMember is called first by programs that may be started as a member. If this
// process is one it does not return: it says "ready" when the cluster has a leader,
// "leads" when it has the office, and ends with its input.
func RunMember() {
	text := os.Getenv(memberEnv)
	if text == "" {
		return
	}
	ctx, end := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) // until whoever started it is gone
		end()
	}()
	err := runMember(ctx, text)
	if err != nil && ctx.Err() == nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runMember(ctx context.Context, text string) error {
	var m Member
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return err
	}
	store, err := m.Start(ctx, "/nyx/members/")
	if err != nil {
		return err
	}
	defer store.Close()
	fmt.Println("ready")
	for ctx.Err() == nil {
		err = store.Hold(ctx, OfficeOfMembers, m.Name, func(term context.Context) {
			fmt.Println("leads")
			<-term.Done()
		})
	}
	return err
}
