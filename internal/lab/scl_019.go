package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/engine/secrets"
	"github.com/nyxnet/nyx/internal/lab/vault"
	"github.com/nyxnet/nyx/internal/trace"
)

// tokenRush is SCL-019: services log in to a secret server one after the other, and
// read their keys as often as they need them. The server is a double: how long a real
// one takes to store a token is a figure of the scenario. In the control a service logs
// in for each read.
func tokenRush(r *Run) error {
	double := vault.New()
	double.Lease = time.Duration(r.Param("lease_minutes") * float64(time.Minute))
	issue := r.Duration("issue_ms", time.Millisecond)
	var issuing sync.Mutex // a server writes tokens one after the other
	double.Issuing = func() {
		issuing.Lock()
		defer issuing.Unlock()
		time.Sleep(issue)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: double, ReadHeaderTimeout: time.Minute}
	go server.Serve(ln)
	defer server.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}
	defer transport.CloseIdleConnections()
	open := func() (*secrets.Vault, error) {
		return secrets.OpenVault(secrets.VaultConfig{URL: "http://" + ln.Addr().String(), RoleID: vault.RoleID, Transport: transport,
			SecretID: func() ([]byte, error) { return []byte(vault.SecretID), nil }})
	}
	first, err := open()
	if err != nil {
		return err
	}
	if _, err := first.Put(context.Background(), "fleet", []byte("a key"), 0); err != nil {
		return err
	}
	services, reads := r.Scaled("services"), int(r.Param("reads_a_service"))
	var mu sync.Mutex
	var failed error
	note := func(err error, took trace.Values) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = err
		}
		if took.Count > 0 {
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
	double.Do(func() {
		r.Note("%d services, %.0f a minute, with %d reads each; the server issued %d tokens, each of which takes it %v by itself. The server is a double of Vault's API, and the figure says nothing of a real one",
			services, float64(services)/time.Since(begun).Minutes(), reads, double.Logins, issue)
	})
	return nil
}
