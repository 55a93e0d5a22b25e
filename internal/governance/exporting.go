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

// desk makes files for who asks: copies of the log, or reports of it.
type desk struct {
	path       string // of its requests
	make, read Action
	formats    []audit.Format
	filters    []string // that there may be
	of         func(*Config) *Exports
	// bound refuses what nothing can be made of, and says whose it would be; nil: the
	// filter says it.
	bound func(*audit.Filter, *Resource) error
}

var exportDesk = desk{"exports", MakeExport, ReadExport, []audit.Format{audit.CSV, audit.JSONLines, audit.Parquet}, filterNames, func(c *Config) *Exports { return c.Exports }, nil}

// makes serves POST exports and POST reports, with an object of a format and a filter
// in the body, and POST exports/{id}/resume.
func (d *desk) makes(c *call) (*answer, error) {
	x := d.of(&c.api.cfg)
	if x == nil || len(c.rest) != 0 && !(len(c.rest) == 2 && c.rest[1] == "resume") {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "there are " + d.path + " and " + d.path + "/{id}/resume, where they are made"}
	}
	c.event.Kind = audit.AuditExport
	if len(c.rest) == 2 {
		j, err := d.owned(c, c.rest[0], d.make)
		if err != nil {
			return nil, err
		}
		c.event.Action, c.event.Subject = "resume", x.cfg.One+"/"+j.ID
		if err := c.record(); err != nil {
			return nil, err
		}
		resumed, err := x.resume(j.ID)
		if err != nil {
			return nil, err
		}
		return x.status(&resumed, http.StatusAccepted)
	}
	query, format, err := d.wanted(c)
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
	return x.status(&j, http.StatusAccepted)
}

// wanted reads the body of a request to make something, and asks the policy.
func (d *desk) wanted(c *call) (query string, format audit.Format, err error) {
	var said struct {
		Format audit.Format      `json:"format"`
		Filter map[string]string `json:"filter"`
	}
	body := json.NewDecoder(c.Body)
	body.DisallowUnknownFields()
	err = body.Decode(&said)
	if err == nil {
		if _, more := body.Token(); more != io.EOF {
			err = errors.New("more than one object")
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), errors.Is(err, os.ErrDeadlineExceeded):
		return "", "", err
	case err != nil:
		return "", "", malformed(`the body is {"format": "` + string(d.formats[0]) + `", "filter": {"from": …, …}}`)
	}
	if !slices.Contains(d.formats, said.Format) {
		return "", "", malformed("format is one of " + list(d.formats))
	}
	q := url.Values{}
	for name, v := range said.Filter {
		if !slices.Contains(d.filters, name) {
			return "", "", malformed("a filter has " + list(d.filters))
		}
		q.Set(name, v)
	}
	asked, err := c.filter(q, "filter")
	if err != nil {
		return "", "", err
	}
	f, err := c.bounded(asked, d.make, d.bound)
	return FilterValues(&f).Encode(), said.Format, err
}

// owned finds what was made that the caller may have: what is in it must be theirs to
// see.
func (d *desk) owned(c *call, id string, a Action) (*job, error) {
	j, ok := d.of(&c.api.cfg).find(id)
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

// made serves exports/{id} and exports/{id}/files/{name}, and the same of reports.
func (d *desk) made(c *call) (*answer, error) {
	x := d.of(&c.api.cfg)
	if x == nil || len(c.rest) != 1 && !(len(c.rest) == 3 && c.rest[1] == "files") {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "there are " + d.path + "/{id} and " + d.path + "/{id}/files/{name}"}
	}
	if _, err := audit.ParseID(c.rest[0]); err != nil {
		return nil, malformed("an id has 32 hexadecimal digits")
	}
	c.note("query", c.rest[0])
	j, err := d.owned(c, c.rest[0], d.read)
	if err != nil {
		return nil, err
	}
	if len(c.rest) == 1 {
		return x.status(j, http.StatusOK)
	}
	names, err := x.files(j)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, c.rest[2]) {
		return nil, ErrNotFound
	}
	c.event.Action = "download"
	c.event.Details[0].Value += " " + c.rest[2]
	return x.download(j, c.rest[2])
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
func (x *Exports) status(j *job, status int) (*answer, error) {
	names, err := x.files(j)
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
