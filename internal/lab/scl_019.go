package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/engine/secrets"
	"github.com/nyxnet/nyx/internal/lab/servers"
	"github.com/nyxnet/nyx/internal/lab/vault"
	"github.com/nyxnet/nyx/internal/trace"
)

// tokenRush is SCL-019: services log in to a secret server one after the other, and
// read their keys as often as they need them. In the control a service logs in for each
// read.
func tokenRush(r *Run) error {
	s, err := rushServer(r)
	if err != nil {
		return err
	}
	defer s.close()
	transport := &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}
	defer transport.CloseIdleConnections()
	s.cfg.Transport = transport
	open := func() (*secrets.Vault, error) { return secrets.OpenVault(s.cfg) }
	first, err := open()
	if err != nil {
		return err
	}
	if _, err := first.Put(context.Background(), "fleet", []byte("a key"), 0); err != nil {
		return err
	}
	services, reads := r.Scaled("services"), int(r.Param(s.reads))
	var mu sync.Mutex
	var failed error
	logins := uint64(0)
	note := func(err error, took trace.Values) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = err
		}
		if logins += took.Count; took.Count > 0 {
			r.Observe("vault_token_create_latency", float64(took.Sum)/float64(took.Count)/1000)
		}
	}
	gap := time.Duration(float64(time.Minute) / r.Param("tokens_per_minute"))
	begun := time.Now()
	var running sync.WaitGroup
	for i := range services {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * gap)))
		running.Go(func() {
			v, err := open()
			for range reads {
				if err == nil {
					_, err = v.Get(context.Background(), "fleet", 0)
				}
				if err == nil && !r.Protected {
					note(nil, v.Figures().Logins)
					v, err = open()
				}
			}
			if err != nil {
				note(fmt.Errorf("a service has no key: %w", err), trace.Values{})
			} else if r.Protected {
				note(nil, v.Figures().Logins)
			}
		})
	}
	running.Wait()
	if failed != nil {
		return failed
	}
	r.Note("%d services, %.0f a minute, with %d reads each; the server issued %d tokens. %s",
		services, float64(services)/time.Since(begun).Minutes(), reads, logins, s.what)
	return nil
}

// rush is a secret server for the rush of tokens.
type rush struct {
	cfg   secrets.VaultConfig
	what  string // it is, for evidence
	reads string // the figure of how often a service reads
	close func()
}

// rushServer is the server that servers.VaultEnv names, or a double: how long a real one
// takes to store a token is a figure of the scenario then.
func rushServer(r *Run) (*rush, error) {
	lease := time.Duration(r.Param("lease_minutes") * float64(time.Minute))
	program := os.Getenv(servers.VaultEnv)
	if program == "" {
		return doubleServer(lease, r.Duration("issue_ms", time.Millisecond))
	}
	if v, ok := servers.RunningVault(); ok {
		r.There()
		return &rush{realConfig(v.URL, v.RoleID, v.SecretID), "It is a real server, at the address that " + servers.VaultEnv + " names", "reads_there", func() {}}, nil
	}
	dir, err := os.MkdirTemp("", "nyx-vault-")
	if err != nil {
		return nil, err
	}
	v, err := servers.StartVault(context.Background(), program, dir, lease, time.Hour)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	r.There()
	what := fmt.Sprintf("It is a real server, version %s, on this machine, with its storage in files", v.Version)
	return &rush{realConfig(v.URL, v.RoleID, v.SecretID), what, "reads_there", func() { v.Stop(); os.RemoveAll(dir) }}, nil
}

func realConfig(url, role, id string) secrets.VaultConfig {
	prefix := "nyx/scl-019-" + time.Now().UTC().Format("20060102150405.000000") + "/"
	return secrets.VaultConfig{URL: url, Prefix: prefix, RoleID: role, SecretID: func() ([]byte, error) { return []byte(id), nil }}
}

func doubleServer(lease, issue time.Duration) (*rush, error) {
	double := vault.New()
	double.Lease = lease
	var issuing sync.Mutex // a server writes tokens one after the other
	double.Issuing = func() {
		issuing.Lock()
		defer issuing.Unlock()
		time.Sleep(issue)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: double, ReadHeaderTimeout: time.Minute}
	go server.Serve(ln)
	cfg := realConfig("http://"+ln.Addr().String(), vault.RoleID, vault.SecretID)
	return &rush{cfg, fmt.Sprintf("It is a double of Vault's API that takes %v for each, and the figure says nothing of a real one", issue), "reads_a_service", func() { server.Close() }}, nil
}
