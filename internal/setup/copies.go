package setup

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/secret"
)

// CopiesConfig is where copies of the audit log are, under object lock.
type CopiesConfig struct {
	// Server is the URL of a server with S3's API, Bucket one of its buckets, and Prefix
	// what keys in it begin with: empty, or ending with a slash. "" is no copy.
	Server, Bucket, Prefix string
	// Region stands in signatures; "" is what servers take that have none.
	Region string
	// KeyID is an access key. Its secret is the first line of SecretFile, or the secret
	// that SecretName names in the store of the process, which reads it into Secret.
	KeyID, SecretFile, SecretName string
	Secret                        []byte
	// CA is a PEM file of who vouches for the server; "" for whom the system trusts.
	CA string
	// Keep is how long what is copied is locked, Every the least time between copies.
	Keep, Every time.Duration
}

// Used reports whether there are copies.
func (c *CopiesConfig) Used() bool { return c.Bucket != "" }

// copiesFile is the part of the table [control].
type copiesFile struct {
	Copies string `toml:"copies"`
	Server string `toml:"copies_server"`
	Region string `toml:"copies_region"`
	KeyID  string `toml:"copies_key_id"`
	Secret string `toml:"copies_secret"`
	CA     string `toml:"copies_ca"`
	Days   int    `toml:"copies_days"`
	Every  string `toml:"copies_every"`
}

// Bounds of copies. A lock of a century cannot be taken back by anybody.
const (
	copiesDays, copiesDaysMost          = 3650, 36500
	copiesEvery                         = "5m"
	copiesEveryLeast, copiesEveryMost   = 10 * time.Second, 24 * time.Hour
	bucketNameLeast, bucketNameMost     = 3, 63
	bucketNameBytes                     = "abcdefghijklmnopqrstuvwxyz0123456789.-"
	copiesPrefixBytes, copiesPrefixMost = bucketNameBytes + "ABCDEFGHIJKLMNOPQRSTUVWXYZ_/", 256
)

// Locate takes where the copies are, as s3://BUCKET/PREFIX.
func (c *CopiesConfig) Locate(where string) error {
	rest, ok := strings.CutPrefix(where, "s3://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	if !ok || len(bucket) < bucketNameLeast || len(bucket) > bucketNameMost || strings.Trim(bucket, bucketNameBytes) != "" ||
		len(prefix) > copiesPrefixMost || strings.Trim(prefix, copiesPrefixBytes) != "" || strings.Contains("/"+prefix, "/.") || strings.Contains(prefix, "//") {
		return fmt.Errorf("%q is not a place in a bucket. Write s3://BUCKET/PREFIX, as in \"s3://audit/control-1\"", where)
	}
	c.Bucket, c.Prefix = bucket, prefix
	return nil
}

// Check says what is wrong with where the server is and how to log in to it; the keys
// of a configuration are named by what stands before them, the flags of a command by
// none.
func (c *CopiesConfig) Check() error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return fmt.Errorf("the server %q is not a URL. Write https://host:port of a server with S3's API", c.Server)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("the server %q would get requests in the clear. Write https://, or a loopback address", c.Server)
	case c.KeyID == "" || c.SecretFile == "" && c.SecretName == "":
		return fmt.Errorf("the access key or its secret is missing. Write the key's ID, and the file whose first line is the secret")
	}
	return nil
}

// copies reads where copies of the audit log go, which is kept for so many days; 0: for ever.
func (d *document) copies(c *CopiesConfig, f *copiesFile, kept int, s *SecretsConfig) {
	if f.Copies == "" {
		if *f != (copiesFile{}) {
			d.bad("control.copies", "missing, and other keys of copies are there. Write s3://BUCKET/PREFIX, or remove them")
		}
		return
	}
	if err := c.Locate(f.Copies); err != nil {
		d.bad("control.copies", "%v", err)
	}
	if name, ok := d.reference("control.copies_secret", f.Secret); ok {
		if c.SecretName = name; !s.Used() {
			d.bad("control.copies_secret", "%q is a reference, and there is no [secrets] that says where it leads. Write the table with its store", f.Secret)
		}
	} else if f.Secret != "" {
		c.SecretFile = beside(filepath.Dir(d.path), f.Secret)
	}
	c.Server, c.Region, c.KeyID, c.CA = f.Server, f.Region, f.KeyID, d.file(f.CA)
	if err := c.Check(); err != nil {
		d.bad("control.copies", "%v", err)
	}
	days := cmp.Or(f.Days, copiesDays)
	if days < 1 || days > copiesDaysMost {
		d.bad("control.copies_days", "%d is not from 1 to %d. Write for how many days what is copied is locked", f.Days, copiesDaysMost)
	}
	if kept > days {
		d.bad("control.copies_days", "the lock of a copy would end after %d days, and the log keeps events for %d (control.audit_days). Write %d or more here, or fewer days there", days, kept, kept)
	}
	c.Keep = time.Duration(days) * 24 * time.Hour
	c.Every = d.duration("control.copies_every", cmp.Or(f.Every, copiesEvery), copiesEveryLeast, copiesEveryMost)
}

// refersToStore reports whether a control process has a secret in the store beside its
// keys.
func (f *controlFile) refersToStore() bool {
	return strings.HasPrefix(f.Index, secret.Scheme) || strings.HasPrefix(f.Secret, secret.Scheme)
}
