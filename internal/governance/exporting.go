package governance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/nyxnet/nyx/internal/audit"
)

// export serves POST exports, with an object of a format and a filter in its body, and
// POST exports/{id}/resume.
func (c *call) export() (*answer, error) {
	x := c.api.cfg.Exports
	if x == nil || len(c.rest) != 0 && !(len(c.rest) == 2 && c.rest[1] == "resume") {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "there are exports and exports/{id}/resume, where the log may be copied"}
	}
	c.event.Kind = audit.AuditExport
	if len(c.rest) == 2 {
		j, err := c.owned(c.rest[0], MakeExport)
		if err != nil {
			return nil, err
		}
		c.event.Action, c.event.Subject = "resume", "export/"+j.ID
		if err := c.record(); err != nil {
			return nil, err
		}
		resumed, err := x.resume(j.ID)
		if err != nil {
			return nil, err
		}
		return c.status(&resumed, http.StatusAccepted)
	}
	query, format, err := c.wanted()
	if err != nil {
		return nil, err
	}
	c.event.Action = "make"
	c.note("format", string(format))
	if err := c.record(); err != nil { // before anything is made
		return nil, err
	}
	j, err := x.add(*c.subject, query, format, c.now)
	if err != nil {
		return nil, err
	}
	return c.status(&j, http.StatusAccepted)
}

// wanted reads the body of POST exports, and asks the policy.
func (c *call) wanted() (query string, format audit.Format, err error) {
	var said struct {
		Format audit.Format      `json:"format"`
		Filter map[string]string `json:"filter"`
	}
	d := json.NewDecoder(c.Body)
	d.DisallowUnknownFields()
	err = d.Decode(&said)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("more than one object")
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), errors.Is(err, os.ErrDeadlineExceeded):
		return "", "", err
	case err != nil:
		return "", "", malformed(`the body is {"format": "csv" or "jsonl", "filter": {"from": …, …}}`)
	}
	if said.Format != audit.CSV && said.Format != audit.JSONLines && said.Format != audit.Parquet {
		return "", "", malformed("format is csv, jsonl or parquet")
	}
	q := url.Values{}
	for name, v := range said.Filter {
		if !slices.Contains(filterNames, name) {
			return "", "", malformed("a filter has " + list(filterNames))
		}
		q.Set(name, v)
	}
	asked, err := c.filter(q, "filter")
	if err != nil {
		return "", "", err
	}
	f, err := c.bounded(asked, MakeExport)
	return FilterValues(&f).Encode(), said.Format, err
}

// owned finds an export that the caller may have: what is in it must be theirs to see.
func (c *call) owned(id string, a Action) (*job, error) {
	j, ok := c.api.cfg.Exports.find(id)
	if !ok {
		return nil, ErrNotFound
	}
	_, resource, err := j.bounds()
	if err != nil {
		return nil, err
	}
	if ok, _ := c.api.cfg.Decider.Decide(c.Context(), c.subject, a, &resource); !ok {
		return nil, ErrNotFound
	}
	return &j, nil
}

// exported serves exports/{id} and exports/{id}/files/{name}.
func (c *call) exported() (*answer, error) {
	if c.api.cfg.Exports == nil || len(c.rest) != 1 && !(len(c.rest) == 3 && c.rest[1] == "files") {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "there are exports/{id} and exports/{id}/files/{name}"}
	}
	if _, err := audit.ParseID(c.rest[0]); err != nil {
		return nil, malformed("an export's id has 32 hexadecimal digits")
	}
	c.note("query", c.rest[0])
	j, err := c.owned(c.rest[0], ReadExport)
	if err != nil {
		return nil, err
	}
	if len(c.rest) == 1 {
		return c.status(j, http.StatusOK)
	}
	names, err := c.api.cfg.Exports.files(j)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, c.rest[2]) {
		return nil, ErrNotFound
	}
	c.event.Action = "download"
	c.event.Details[0].Value += " " + c.rest[2]
	return c.api.cfg.Exports.download(j, c.rest[2])
}

// download is an answer with a file, of which the client must take each piece in time.
func (x *Exports) download(j *job, name string) (*answer, error) {
	path := filepath.Join(x.dir(j.ID), name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &answer{kind: "application/octet-stream", name: j.ID + "-" + name, size: info.Size(), stream: func(ctx context.Context, w io.Writer) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}}, nil
}

// status is an answer with how far an export is.
func (c *call) status(j *job, status int) (*answer, error) {
	names, err := c.api.cfg.Exports.files(j)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		ID     string       `json:"id"`
		State  State        `json:"state"`
		Format audit.Format `json:"format"`
		Rows   int64        `json:"rows"`
		Parts  int          `json:"parts"`
		Files  []string     `json:"files,omitempty"`
	}{j.ID, j.State, j.Format, j.Rows, j.Parts, names})
	return &answer{status: status, body: append(b, '\n')}, err
}
