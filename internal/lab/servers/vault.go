package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// VaultName is the program of a Vault server.
const VaultName = "vault"

// VaultEnv names a server to use in the place of that program: the path of another, or
// URL,ROLE-ID,SECRET-ID of one that runs, whose role may do what Policy says.
const VaultEnv = "NYX_VAULT"

// Policy is what the role of a Nyx process may do, as docs/secrets.md has it.
const Policy = `path "secret/data/nyx/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/nyx/*" { capabilities = ["read", "list", "delete"] }
path "secret/destroy/nyx/*" { capabilities = ["update"] }
`

// Vault is a running server, with its storage on the disk, a KV engine of version 2 at
// secret/, and a role that may do what Policy says.
type Vault struct {
	URL, Version     string
	RoleID, SecretID string

	process         *process
	program, config string
	root, unseal    string
}

// RunningVault is the server that runs already, by VaultEnv, if there is one.
func RunningVault() (v *Vault, ok bool) {
	parts := strings.Split(os.Getenv(VaultEnv), ",")
	if len(parts) != 3 {
		return nil, false
	}
	return &Vault{URL: parts[0], RoleID: parts[1], SecretID: parts[2]}, true
}

// FindVault returns the path of the program, by VaultEnv or as it is built here.
func FindVault() (string, error) {
	if path := os.Getenv(VaultEnv); path != "" {
		return path, nil
	}
	return Find(VaultName)
}

// StartVault starts a program in a directory: that of test/servers.sh, or the whole of
// Vault or OpenBao. Its tokens live for lease, renewed up to most.
func StartVault(ctx context.Context, program, dir string, lease, most time.Duration) (*Vault, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[0]
	v := &Vault{URL: "http://" + at, program: program, config: filepath.Join(dir, "vault.json")}
	text, err := json.Marshal(map[string]any{
		"storage":       map[string]any{"file": map[string]any{"path": filepath.Join(dir, "data")}},
		"listener":      map[string]any{"tcp": map[string]any{"address": at, "tls_disable": true}},
		"api_addr":      v.URL,
		"disable_mlock": true,
		"log_level":     "error",
	})
	if err == nil {
		err = os.WriteFile(v.config, text, 0o600)
	}
	if err == nil {
		err = v.Start()
	}
	if err != nil {
		return nil, err
	}
	if err := v.equip(ctx, lease, most); err != nil {
		return nil, errors.Join(err, v.Stop())
	}
	return v, nil
}

// Start runs the server again after Stop. It is sealed then.
func (v *Vault) Start() (err error) {
	v.process, err = start("server started", strings.TrimPrefix(v.URL, "http://"), exec.Command(v.program, "server", "-config="+v.config))
	return err
}

// Stop ends it.
func (v *Vault) Stop() error { return v.process.stop() }

// Unseal opens a sealed server.
func (v *Vault) Unseal(ctx context.Context) error {
	return v.ask(ctx, http.MethodPut, "sys/unseal", map[string]any{"key": v.unseal}, nil)
}

// Seal closes it.
func (v *Vault) Seal(ctx context.Context) error {
	return v.ask(ctx, http.MethodPut, "sys/seal", nil, nil)
}

// Revoke revokes the tokens of the role.
func (v *Vault) Revoke(ctx context.Context) error {
	return v.ask(ctx, http.MethodPut, "sys/leases/revoke-prefix/auth/approle/login", nil, nil)
}

// equip makes of an empty server one with engine, role and policy.
func (v *Vault) equip(ctx context.Context, lease, most time.Duration) error {
	var made struct {
		Keys []string `json:"keys_base64"`
		Root string   `json:"root_token"`
	}
	var health struct {
		Version string `json:"version"`
	}
	var role, secret struct {
		Data struct {
			RoleID   string `json:"role_id"`
			SecretID string `json:"secret_id"`
		} `json:"data"`
	}
	ask := func(err error, method, path string, body, answer any) error {
		if err != nil {
			return err
		}
		return v.ask(ctx, method, path, body, answer)
	}
	err := ask(nil, http.MethodPut, "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &made)
	if err != nil {
		return err
	}
	v.root, v.unseal = made.Root, made.Keys[0]
	err = v.Unseal(ctx)
	err = ask(err, http.MethodGet, "sys/health", nil, &health)
	err = ask(err, http.MethodPost, "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, nil)
	err = ask(err, http.MethodPost, "sys/auth/approle", map[string]any{"type": "approle"}, nil)
	err = ask(err, http.MethodPut, "sys/policies/acl/nyx", map[string]any{"policy": Policy}, nil)
	err = ask(err, http.MethodPost, "auth/approle/role/nyx", map[string]any{"token_policies": []string{"nyx"}, "token_ttl": lease.String(), "token_max_ttl": most.String()}, nil)
	err = ask(err, http.MethodGet, "auth/approle/role/nyx/role-id", nil, &role)
	err = ask(err, http.MethodPost, "auth/approle/role/nyx/secret-id", nil, &secret)
	v.Version, v.RoleID, v.SecretID = health.Version, role.Data.RoleID, secret.Data.SecretID
	return err
}

// engineTries and enginePause: a new KV engine makes itself ready beside its mounting,
// and says so until it is.
const (
	engineTries = 100
	enginePause = 50 * time.Millisecond
)

// ask makes a request under the root token.
func (v *Vault) ask(ctx context.Context, method, path string, body, answer any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		r, err := http.NewRequestWithContext(ctx, method, v.URL+"/v1/"+path, bytes.NewReader(content))
		if err != nil {
			return err
		}
		r.Header.Set("X-Vault-Token", v.root)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode >= 300 && n < engineTries && strings.Contains(string(got), "Upgrading"):
			time.Sleep(enginePause)
			continue
		case resp.StatusCode >= 300:
			return fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, got)
		case answer != nil:
			return json.Unmarshal(got, answer)
		}
		return nil
	}
}
