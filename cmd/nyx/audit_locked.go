package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/s3"
	"github.com/nyxnet/nyx/internal/engine/worm"
	"github.com/nyxnet/nyx/internal/setup"
)

// openPlace returns where the copy of a log is. secret is that of the access key, if it
// is known; it is read from a file for every request otherwise.
func openPlace(c *setup.CopiesConfig, secret []byte) (worm.Place, *s3.Bucket, error) {
	b, err := s3.Open(s3.Config{URL: c.Server, Bucket: c.Bucket, Region: c.Region, KeyID: c.KeyID, CA: c.CA, Secret: func() ([]byte, error) {
		if secret != nil {
			return bytes.Clone(secret), nil
		}
		return setup.LoadLine(c.SecretFile)
	}})
	return worm.Place{Bucket: b, Prefix: c.Prefix}, b, err
}

// copying copies the compliance store's log to where nobody can change it.
type copying struct {
	*worm.Copier
	bucket *s3.Bucket
}

// startCopying begins to copy, if the configuration says where to; nil: it does not.
func startCopying(cfg *daemon.ControlConfig, store *compliance) (*copying, error) {
	p := &cfg.Plane.Copies
	if !p.Used() {
		return nil, nil
	}
	place, bucket, err := openPlace(p, p.Secret)
	if err != nil {
		return nil, err
	}
	draw := drawing("copies")
	tell := func(ctx context.Context, severity audit.Severity, action, summary string) error {
		var drawn [10]byte
		draw(drawn[:])
		now := time.Now().UTC().Truncate(time.Millisecond)
		return store.Record(ctx, audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: audit.Incident, Severity: severity, Actor: cfg.Name,
			Subject: "audit.log", Action: action, Count: 1, Details: []audit.Detail{{Key: "summary", Value: summary}}})
	}
	c, err := worm.Start(worm.Config{Place: place, Keep: p.Keep, Every: p.Every, Store: store.Store, Size: store.Size, Wait: store.Wait, Tell: tell, Log: cfg.Log})
	if err != nil {
		bucket.Close()
		return nil, err
	}
	store.copiedBy(c.Copied)
	return &copying{c, bucket}, nil
}

// Close ends it.
func (c *copying) Close() error {
	defer c.bucket.Close()
	return c.Copier.Close()
}

func (c *copying) write(m figures) {
	f := c.Figures()
	m.one("audit_copy_lag_events", float64(f.Behind))
	m.one("audit_copy_lag_seconds", f.Lag.Seconds())
	m.one("nyx_audit_copy_bytes_total", float64(f.Bytes))
	m.one("nyx_audit_copy_objects_total", float64(f.Objects))
	m.one("nyx_audit_copy_faults_total", float64(f.Faults))
}

// copyFlags say where a copy is.
type copyFlags struct {
	from string
	days int
	c    setup.CopiesConfig
}

func (f *copyFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.from, "from", "", "where a copy under object lock is: s3://BUCKET/PREFIX")
	fs.IntVar(&f.days, "days", 0, "of --from: for how many days its objects should be locked (control.copies_days); 0: not known")
	fs.StringVar(&f.c.Server, "server", "", "of --from: URL of the server with S3's API, https://host:port")
	fs.StringVar(&f.c.Region, "region", "us-east-1", "of --from: region of the bucket")
	fs.StringVar(&f.c.KeyID, "access-key", "", "of --from: ID of an access key that may list and read")
	fs.StringVar(&f.c.SecretFile, "secret-file", "", "of --from: file whose first line is the key's secret")
	fs.StringVar(&f.c.CA, "ca", "", "of --from: PEM file of who vouches for the server")
}

// restore writes the copy's log into a directory.
func (f *copyFlags) restore(cmd *cobra.Command, dir string) (r worm.Restored, err error) {
	if err = f.c.Locate(f.from); err == nil {
		err = f.c.Check()
	}
	if err != nil {
		return r, fmt.Errorf("--from: %w", err)
	}
	place, bucket, err := openPlace(&f.c, nil)
	if err != nil {
		return r, err
	}
	defer bucket.Close()
	line := cli.Watch(cmd)
	defer line.Done()
	return worm.Restore(cmd.Context(), place, dir, f.days, time.Now(), func(r worm.Restored) { line.Bar("objects read:", uint64(r.Objects), 0) })
}

// locked says how a copy is protected.
func locked(w io.Writer, r worm.Restored) {
	fmt.Fprintf(w, "%d objects, %d bytes; %d objects are locked", r.Objects, r.Bytes, r.Locked)
	if r.Locked > 0 {
		fmt.Fprintf(w, ", the first until %s", r.Until.UTC().Format(time.RFC3339))
	}
	if r.Unlocked > 0 {
		fmt.Fprintf(w, "; %v", unlocked(r))
	}
	if r.Upon > 0 {
		fmt.Fprintf(w, "; somebody has put %d versions or marks of deletion upon them, which change nothing", r.Upon)
	}
	fmt.Fprintln(w)
}

// unlocked is what is wrong with a copy that could be changed or removed.
func unlocked(r worm.Restored) error {
	if r.Unlocked == 0 {
		return nil
	}
	return fmt.Errorf("%d objects are not locked for as long as they should be, the first %s: they can be changed or removed; find out who has written there, and start the control process, which locks what is the log's", r.Unlocked, r.Bare)
}

// verifyFrom verifies a copy, which it reads into a directory that is gone afterwards.
func (a *auditPlace) verifyFrom(cmd *cobra.Command, f *copyFlags, others [][]byte) error {
	if a.keys == "" {
		return errors.New("--keys is missing: a copy has no keys; name the directory of the log's keys")
	}
	dir, err := os.MkdirTemp("", "nyx-audit-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := f.restore(cmd, dir)
	if err != nil {
		return err
	}
	if !a.json {
		locked(cmd.OutOrStdout(), r)
	}
	a.dir = dir
	if err := a.verifyLog(cmd, others, &r); err != nil {
		return err
	}
	return unlocked(r)
}

// restoreLogCommand makes the command that needs no log.
func restoreLogCommand() *cobra.Command {
	var f copyFlags
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore --from s3://BUCKET/PREFIX --out DIR",
		Short: "Write the log anew from its copy under object lock",
		Long: `Write the log anew, into an empty directory, from the copy that a control process
keeps in a bucket with object lock (control.copies). What somebody has put upon the
objects of the copy, or marked as deleted, changes nothing: their first versions are
read. The log's keys are not in the copy; verify the log with yours (nyx audit verify).`,
		Example: "  nyx audit restore --from s3://audit/control-1 --server https://s3.example --access-key AUDITOR --secret-file s3.secret --out restored",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.restore(cmd, out)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			locked(cmd.OutOrStdout(), r)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "directory for the log, empty or not there")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagRequired("from")
	cmd.MarkFlagRequired("out")
	return cmd
}
