package secrets

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/secret"
)

// VaultConfig is a server with Vault's HTTP API, as HashiCorp Vault and OpenBao
// have it.
type VaultConfig struct {
	// URL is the server's, as https://vault.example:8200.
	URL string
	// Mount is the path of the KV engine, version 2; "" is "secret". Prefix stands
	// before every name in it, as in "nyx/".
	Mount, Prefix string
	// AuthMount is the path of the AppRole engine; "" is "approle".
	AuthMount string
	// RoleID is the role's. SecretID returns its secret id, for every login anew.
	RoleID   string
	SecretID func() ([]byte, error)
	// Lease is what tokens are renewed for; 0 is DefaultLease.
	Lease time.Duration
	// CA is a PEM file of who vouches for the server; "" for whom the system trusts.
	CA string
	// Transport takes the place of HTTP over TLS; nil: it is that.
	Transport http.RoundTripper
}

// Limits of requests.
const (
	// callMax bounds a call with its repetitions, answerMax one answer.
	callMax   = 10 * time.Second
	answerMax = 1 << 20
	// retryMin is the pause before the first repetition, which doubles.
	retryMin = 100 * time.Millisecond
	// redirectsMax is how often a standby server may name the active one.
	redirectsMax = 3
	// connsMax bounds connections to the server.
	connsMax = 64
	// depthMax bounds how deep folders of names are listed.
	depthMax = secret.NameMax / 2
)

// Vault is a secret.Store in a server with Vault's API: the secret NAME is the
// entry Prefix+NAME of a KV engine of version 2, with its value in base64 under the
// key "value"; versions and check-and-set are the engine's own. The role's policy
// needs create, read, update and delete on data/, read, list and delete on metadata/
// and update on destroy/ of what it may touch.
type Vault struct {
	cfg    VaultConfig
	client *http.Client
	tokens tokens
}

// OpenVault returns a store in a server, which is asked when it is needed.
func OpenVault(cfg VaultConfig) (*Vault, error) {
	if cfg.Mount == "" {
		cfg.Mount = "secret"
	}
	if cfg.AuthMount == "" {
		cfg.AuthMount = "approle"
	}
	if cfg.Lease == 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Transport == nil {
		trust := &tls.Config{MinVersion: tls.VersionTLS12}
		if cfg.CA != "" {
			b, err := os.ReadFile(cfg.CA)
			if err != nil {
				return nil, fmt.Errorf("cannot read whom to trust as the secret server: %w", err)
			}
			if trust.RootCAs = x509.NewCertPool(); !trust.RootCAs.AppendCertsFromPEM(b) {
				return nil, fmt.Errorf("%s holds no certificate; name the PEM file of who vouches for the secret server", cfg.CA)
			}
		}
		cfg.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true,
			MaxConnsPerHost: connsMax, MaxIdleConnsPerHost: connsMax, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: callMax,
		}
	}
	v := &Vault{cfg: cfg}
	v.cfg.URL = strings.TrimRight(cfg.URL, "/")
	v.tokens.issue = v.issueToken
	v.client = &http.Client{Transport: cfg.Transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > redirectsMax || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return v, nil
}

// Figures returns what was counted so far.
func (v *Vault) Figures() Figures { return v.tokens.counted() }

// Close implements secret.Store.
func (v *Vault) Close() error {
	v.client.CloseIdleConnections()
	return nil
}

// kept is a version as the server has it.
type kept struct {
	Data struct {
		Data struct {
			Value []byte `json:"value"`
		} `json:"data"`
		Metadata struct {
			Version uint64    `json:"version"`
			Created time.Time `json:"created_time"`
		} `json:"metadata"`
		// Of a write.
		Version uint64 `json:"version"`
	} `json:"data"`
}

// path is where the KV engine has something of a secret.
func (v *Vault) path(of, name string) string {
	return v.cfg.Mount + "/" + of + "/" + v.cfg.Prefix + name
}

// Get implements secret.Store.
func (v *Vault) Get(ctx context.Context, name string, version uint64) (secret.Secret, error) {
	if err := secret.CheckName(name); err != nil {
		return secret.Secret{}, err
	}
	path := v.path("data", name)
	if version != 0 {
		path += "?version=" + strconv.FormatUint(version, 10)
	}
	var answer kept
	if err := v.call(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return secret.Secret{}, fmt.Errorf("secret %s: %w", name, err)
	}
	s := secret.Secret{Value: answer.Data.Data.Value, Version: answer.Data.Metadata.Version, Placed: answer.Data.Metadata.Created}
	if len(s.Value) == 0 || s.Version == 0 {
		return secret.Secret{}, fmt.Errorf("secret %s: its entry has no key \"value\" in base64; write it by nyx secret put", name)
	}
	return s, nil
}

// Put implements secret.Store.
func (v *Vault) Put(ctx context.Context, name string, value []byte, was uint64) (uint64, error) {
	if err := secret.Check(name, value); err != nil {
		return 0, err
	}
	var answer kept
	body := map[string]any{"options": map[string]any{"cas": was}, "data": map[string]any{"value": base64.StdEncoding.EncodeToString(value)}}
	if err := v.call(ctx, http.MethodPost, v.path("data", name), body, &answer); err != nil {
		return 0, fmt.Errorf("secret %s: %w", name, err)
	}
	return answer.Data.Version, nil
}

// metadata is what the server knows of a secret.
type metadata struct {
	Data struct {
		Current  uint64 `json:"current_version"`
		Versions map[string]struct {
			Created   time.Time `json:"created_time"`
			Destroyed bool      `json:"destroyed"`
		} `json:"versions"`
	} `json:"data"`
}

// Destroy implements secret.Store.
func (v *Vault) Destroy(ctx context.Context, name string, before uint64) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	var m metadata
	err := v.call(ctx, http.MethodGet, v.path("metadata", name), nil, &m)
	if errors.Is(err, secret.ErrNone) {
		return nil
	}
	var old []uint64
	for number, version := range m.Data.Versions {
		if n, err := strconv.ParseUint(number, 10, 63); err == nil && n < min(before, m.Data.Current) && !version.Destroyed {
			old = append(old, n)
		}
	}
	if err == nil && len(old) > 0 {
		err = v.call(ctx, http.MethodPost, v.path("destroy", name), map[string]any{"versions": old}, nil)
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}

// Delete implements secret.Store.
func (v *Vault) Delete(ctx context.Context, name string) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	if err := v.call(ctx, http.MethodDelete, v.path("metadata", name), nil, nil); err != nil && !errors.Is(err, secret.ErrNone) {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}

// List implements secret.Store. Each secret costs a request.
func (v *Vault) List(ctx context.Context, prefix string) (out []secret.Info, err error) {
	if err := v.list(ctx, "", prefix, 0, &out); err != nil {
		return nil, fmt.Errorf("cannot list the secrets: %w", err)
	}
	secret.SortInfos(out)
	return out, nil
}

// list lists a folder, whose name ends with a slash or is "".
func (v *Vault) list(ctx context.Context, folder, prefix string, depth int, out *[]secret.Info) error {
	var answer struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	err := v.call(ctx, http.MethodGet, v.path("metadata", folder)+"?list=true", nil, &answer)
	if errors.Is(err, secret.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range answer.Data.Keys {
		name := folder + key
		switch {
		case strings.HasSuffix(key, "/"):
			if depth < depthMax && (strings.HasPrefix(name, prefix) || strings.HasPrefix(prefix, name)) {
				if err := v.list(ctx, name, prefix, depth+1, out); err != nil {
					return err
				}
			}
		case strings.HasPrefix(name, prefix) && secret.CheckName(name) == nil:
			var m metadata
			if err := v.call(ctx, http.MethodGet, v.path("metadata", name), nil, &m); err != nil && !errors.Is(err, secret.ErrNone) {
				return err
			}
			if m.Data.Current > 0 {
				created := m.Data.Versions[strconv.FormatUint(m.Data.Current, 10)].Created
				*out = append(*out, secret.Info{Name: name, Version: m.Data.Current, Placed: created})
			}
		}
	}
	return nil
}

// refusal is an answer other than success.
type refusal struct {
	status int
	why    string // in the server's words
	pause  time.Duration
}

// Is tells errors.Is that a secret is refused.
func (r *refusal) Is(target error) bool {
	return target == secret.ErrRefused && r.status == http.StatusForbidden
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the secret server answers %d %s", r.status, http.StatusText(r.status))
	if r.why != "" {
		text += ": " + r.why
	}
	switch r.status {
	case http.StatusForbidden:
		text += "; check the policy of the role"
	case http.StatusServiceUnavailable:
		text += "; is it sealed?"
	}
	return text
}

// call makes a request under the process's token: again after a fresh login if the
// token is refused, and again after a pause if the server is busy, sealed or away.
func (v *Vault) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callMax)
	defer cancel()
	renewed := false
	for pause := retryMin; ; pause *= 2 {
		token, err := v.tokens.get(ctx)
		if err != nil {
			return err
		}
		err = v.once(ctx, method, path, token, body, answer)
		var r *refusal
		refused := errors.As(err, &r)
		switch {
		case err == nil:
			return nil
		case refused && r.status == http.StatusForbidden && !renewed:
			renewed = true
			v.tokens.drop(token)
			continue
		case refused && r.status == http.StatusNotFound && r.why == "": // with words it is a path that leads nowhere
			return secret.ErrNone
		case refused && r.status == http.StatusBadRequest && strings.Contains(r.why, "check-and-set"):
			return secret.ErrChanged
		case errors.Is(err, errStrange), refused && r.status < 500 && r.status != http.StatusTooManyRequests && r.status != http.StatusPreconditionFailed:
			return err
		}
		// A change may have come about before the answer was lost: its repetition
		// then says ErrChanged, which whoever uses Change looks into.
		wait := pause - shorter(pause/2)
		if refused {
			wait = max(wait, min(r.pause, callMax))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

var errStrange = errors.New("the secret server's answer is not that of Vault's API; check the URL")

// once makes one request. An answer without success is a *refusal.
func (v *Vault) once(ctx context.Context, method, path, token string, body, answer any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.cfg.URL+"/v1/"+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return fmt.Errorf("the secret server cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	defer clear(b)
	if err != nil {
		return fmt.Errorf("the secret server's answer was cut: %w", err)
	}
	if resp.StatusCode >= 300 {
		return refusalOf(resp, b)
	}
	if answer == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("%w: %w", errStrange, err)
	}
	return nil
}

func refusalOf(resp *http.Response, b []byte) error {
	r := &refusal{status: resp.StatusCode}
	var said struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(b, &said) == nil {
		r.why = oneLine(strings.Join(said.Errors, ", "))
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		r.pause = min(time.Duration(s)*time.Second, callMax)
	}
	return r
}

// whyMax bounds what is repeated of a server's words.
const whyMax = 200

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), whyMax)]
}
