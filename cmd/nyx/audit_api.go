package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/setup"
)

// auditAPI is how commands reach the governance API of a running control process, in
// place of the files of its log.
type auditAPI struct{ url, bearer, certificate, key string }

func (a *auditAPI) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&a.url, "api", "", "ask the governance API of a control process, https://host:port#HASH, in place of --dir")
	fs.StringVar(&a.bearer, "bearer", "", "with --api: file whose first line is a bearer or a token")
	fs.StringVar(&a.certificate, "certificate", "", "with --api: PEM file of your certificate")
	fs.StringVar(&a.key, "certificate-key", "", "with --api: PEM file of its key")
}

const (
	// apiPatience is how long one request may take, a part of an export included.
	apiPatience = 10 * time.Minute
	// apiWaits bounds how often a request is made again that was told to wait.
	apiWaits = 30
	// exportSoon is when it is asked first how far an export is, exportLook how often in
	// the end: half of what an actor may ask in a minute is left for the files.
	exportSoon = 50 * time.Millisecond
	exportLook = 2 * time.Second
)

// reader asks a governance API.
type reader struct {
	server mirror.Server
	client *http.Client
	bearer string
	waits  io.Writer // is told of waits
}

func (a *auditAPI) open(cmd *cobra.Command) (*reader, error) {
	r := &reader{waits: cmd.ErrOrStderr()}
	var err error
	if r.server, err = mirror.ParseServer(a.url); err != nil || !r.server.Replica {
		return nil, fmt.Errorf("--api %q is no governance API; use https://host:port#HASH, as the control process logs it", a.url)
	}
	if (a.certificate == "") != (a.key == "") {
		return nil, errors.New("--certificate and --certificate-key go together")
	}
	own, err := front.SelfSigned("", time.Now())
	if a.certificate != "" {
		own, err = front.Load(a.certificate, a.key)
	}
	if err != nil {
		return nil, err
	}
	if a.bearer != "" {
		line, err := setup.LoadLine(a.bearer)
		if err != nil {
			return nil, err
		}
		r.bearer = string(line)
	}
	r.client = r.server.Client(own)
	r.client.Timeout = apiPatience
	return r, nil
}

// ask makes a request, and again where it was told to come later. The body of the
// answer is the caller's to close.
func (r *reader) ask(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	for waits := 0; ; waits++ {
		q, err := http.NewRequestWithContext(ctx, method, r.server.URL+governance.Prefix+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if r.bearer != "" {
			q.Header.Set("Authorization", "Bearer "+r.bearer)
		}
		res, err := r.client.Do(q)
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 300 {
			return res, nil
		}
		var said struct{ Error, Message string }
		err = json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&said)
		res.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("the governance API answers %s", res.Status)
		}
		later, err := strconv.Atoi(res.Header.Get("Retry-After"))
		if err != nil || waits == apiWaits || r.bearer != "" && said.Error == "rate" {
			return nil, fmt.Errorf("the governance API refuses (%s): %s", said.Error, said.Message)
		}
		fmt.Fprintf(r.waits, "in %d s again: %s\n", later, said.Message)
		select {
		case <-time.After(time.Duration(later) * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// get decodes an answer.
func (r *reader) get(ctx context.Context, method, path string, body []byte, into any) error {
	res, err := r.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("the answer of the governance API: %w", err)
	}
	return nil
}

// auditPage is a page of events, as commands print it with --json.
type auditPage struct {
	Events []json.RawMessage `json:"events"`
	Cursor string            `json:"cursor,omitempty"`
}

// page finds events.
func (r *reader) page(ctx context.Context, f *audit.Filter, newest bool, cursor string, limit int) (p auditPage, err error) {
	q := governance.FilterValues(f)
	q.Set("limit", strconv.Itoa(limit))
	if newest {
		q.Set("order", "newest")
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return p, r.get(ctx, http.MethodGet, "audit-events?"+q.Encode(), nil, &p)
}

// entries parses the events of a page.
func (p *auditPage) entries() ([]audit.Entry, error) {
	out := make([]audit.Entry, len(p.Events))
	for i, b := range p.Events {
		var err error
		if out[i], err = audit.ParseJSON(b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// query prints a page of the API.
func (a *auditAPI) query(cmd *cobra.Command, place *auditPlace, f *audit.Filter, newest bool, cursor string, limit int) error {
	r, err := a.open(cmd)
	if err != nil {
		return err
	}
	p, err := r.page(cmd.Context(), f, newest, cursor, limit)
	if err != nil {
		return err
	}
	if place.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(p)
	}
	entries, err := p.entries()
	if err != nil {
		return err
	}
	place.printPage(cmd.OutOrStdout(), entries, p.Cursor)
	return nil
}

// tail prints the newest events of the API.
func (a *auditAPI) tail(cmd *cobra.Command, place *auditPlace, last int) error {
	r, err := a.open(cmd)
	if err != nil {
		return err
	}
	p, err := r.page(cmd.Context(), &audit.Filter{}, true, "", last)
	if err != nil {
		return err
	}
	entries, err := p.entries()
	slices.Reverse(entries)
	for i := range entries {
		place.print(cmd.OutOrStdout(), &entries[i])
	}
	return err
}

// prove takes a proof from the API.
func (a *auditAPI) prove(cmd *cobra.Command, id string) ([]byte, error) {
	r, err := a.open(cmd)
	if err != nil {
		return nil, err
	}
	res, err := r.ask(cmd.Context(), http.MethodGet, "audit-events/"+url.PathEscape(id)+"/proof", nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// exportState is how far the API says that an export is.
type exportState struct {
	ID    string
	State governance.State
	Rows  int64
	Files []string
}

// export has the API make an export, and takes its files into a directory.
func (a *auditAPI) export(cmd *cobra.Command, format audit.Format, f *audit.Filter, dir string) (*exportState, error) {
	r, err := a.open(cmd)
	if err != nil {
		return nil, err
	}
	filter := map[string]string{}
	for name, v := range governance.FilterValues(f) {
		filter[name] = v[0]
	}
	b, err := json.Marshal(map[string]any{"format": format, "filter": filter})
	if err != nil {
		return nil, err
	}
	x := &exportState{}
	ctx := cmd.Context()
	if err := r.get(ctx, http.MethodPost, "exports", b, x); err != nil {
		return nil, err
	}
	for look := exportSoon; x.State != governance.Done; look = min(2*look, exportLook) {
		if x.State == governance.Broken {
			return nil, fmt.Errorf("export %s failed; the control process's log says why", x.ID)
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := r.get(ctx, http.MethodGet, "exports/"+x.ID, nil, x); err != nil {
			return nil, fmt.Errorf("export %s is under way: %w", x.ID, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range x.Files {
		if err := r.take(ctx, "exports/"+x.ID+"/files/"+name, dir, name); err != nil {
			return nil, fmt.Errorf("export %s: %s: %w", x.ID, name, err)
		}
	}
	return x, nil
}

// take writes a file of the API into a directory, whole or not at all.
func (r *reader) take(ctx context.Context, path, dir, name string) error {
	if filepath.Base(name) != name || strings.HasPrefix(name, ".") {
		return errors.New("it is not the name of a file")
	}
	res, err := r.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	to := filepath.Join(dir, name)
	f, err := os.OpenFile(to+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(to+".part", to)
}

// bearer prints what lets somebody in once.
func (a *auditPlace) bearer() *cobra.Command {
	var s governance.Subject
	var role string
	cmd := &cobra.Command{
		Use:   "bearer --name NAME --role ROLE",
		Short: "Print a bearer, good for one request to the governance API of this machine",
		Long: `Print a bearer under the key that the control process of this machine keeps among the
keys of its log. Whoever has it is, for one request within five minutes, the person that
it names; the log says so.`,
		Example: "  nyx audit bearer --dir control-1/keys/audit --name alice --role auditor",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.Role = governance.Role(role); !slices.Contains(governance.Roles, s.Role) {
				return fmt.Errorf("--role %q is no role; use viewer, operator, admin or auditor", role)
			}
			if s.Clearance > audit.SensitivityMax {
				return fmt.Errorf("--clearance %d is out of range; use 0 to %d", s.Clearance, audit.SensitivityMax)
			}
			keys := a.keys
			if keys == "" {
				keys = filepath.Join(a.dir, "keys")
			}
			key, err := ledger.OpenBearerKey(keys, false)
			if err != nil {
				return fmt.Errorf("%w; a control process makes it when it serves governance; say where it is with --dir or --keys", err)
			}
			var drawn [16]byte
			drawing("bearer")(drawn[:])
			fmt.Fprintln(cmd.OutOrStdout(), governance.NewBearer(key, &s, time.Now(), drawn))
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&s.Name, "name", "", "who it is for, as the log will name them")
	fs.StringVar(&role, "role", "", "viewer, operator, admin or auditor")
	fs.StringVar(&s.Org, "org", "", "organisation whose events alone they may see (default: the network's, and all)")
	fs.Uint8Var(&s.Clearance, "clearance", audit.SensitivityMax, "the most sensitive events that they may see, if the role allows it, 0 to 2")
	fs.StringVar(&a.dir, "dir", "audit", "directory of the log")
	fs.StringVar(&a.keys, "keys", "", "directory of its keys (default: keys in the log's directory)")
	cmd.MarkFlagRequired("name")
	cmd.MarkFlagRequired("role")
	return cmd
}
