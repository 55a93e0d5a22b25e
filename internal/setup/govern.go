package setup

import (
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Governing is how long a control process keeps its audit log, how it indexes it, and who
// reads it there.
type Governing struct {
	// AuditDays is for how many days events are kept; 0: for ever.
	AuditDays int
	// Index is the URL of the index's database, or the name of the secret that holds
	// it; both "" for a file in the state directory.
	Index, IndexSecret string
	// Governance is the address of the governance API; the zero value: it is not
	// served.
	Governance netip.AddrPort
	// People is a PEM file of who issues certificates of people; "" for nobody.
	People string
	// Access is the source of the policy of who may read what, "" for the one that is
	// built in; AccessKey is a PEM file of who signs it.
	Access, AccessKey string
	// Issuers are those whose tokens say who somebody is: who reads the log, and who
	// gets passes if these are given to whom they name.
	Issuers []IssuerConfig
}

// IssuerConfig is an issuer of tokens.
type IssuerConfig struct {
	// URL is the claim iss, Keys the URL of its key set, Audience the claim aud.
	URL      string `toml:"url"`
	Keys     string `toml:"keys"`
	Audience string `toml:"audience"`
	// Algorithms are what it signs with; nil for ES256 and EdDSA.
	Algorithms []string `toml:"algorithms"`
}

// governingFile is the part of the table [control].
type governingFile struct {
	AuditDays  int            `toml:"audit_days"`
	Index      string         `toml:"index"`
	Governance string         `toml:"governance"`
	People     string         `toml:"people"`
	Access     string         `toml:"access"`
	AccessKey  string         `toml:"access_key"`
	Issuers    []IssuerConfig `toml:"issuer"`
}

// auditDaysMost is as long as a copy can be locked.
const auditDaysMost = copiesDaysMost

// governing reads how the audit log is kept, indexed and read; passes is to whom the process
// gives unlinkable tokens, for which it may ask the same issuers.
func (d *document) governing(g *Governing, f *governingFile, passes string, s *SecretsConfig) {
	if name, ok := d.reference("control.index", f.Index); ok {
		if g.IndexSecret = name; !s.Used() {
			d.bad("control.index", "%q is a reference, and there is no [secrets] that says where it leads. Write the table with its store", f.Index)
		}
	} else if g.Index = f.Index; g.Index != "" && !ValidIndex(g.Index) {
		d.bad("control.index", "it is not the URL of a database. Write postgres://user:password@host:port/name, a reference to it, or nothing for a file in the state directory")
	}
	if g.AuditDays = f.AuditDays; g.AuditDays < 0 || g.AuditDays > auditDaysMost {
		d.bad("control.audit_days", "%d is not from 0 to %d. Write for how many days events are kept, or remove the key to keep them for ever", f.AuditDays, auditDaysMost)
	}
	g.Issuers = f.Issuers
	for i, id := range f.Issuers {
		if id.URL == "" || id.Keys == "" || id.Audience == "" {
			d.bad(fmt.Sprintf("control.issuer[%d]", i+1), "url, keys or audience is missing. Write all three, as the provider publishes them")
		}
	}
	if f.Governance == "" {
		for key, written := range map[string]bool{"people": f.People != "", "access": f.Access != "", "access_key": f.AccessKey != "", "issuer": len(f.Issuers) > 0 && passes != PassesOIDC} {
			if written {
				d.bad("control."+key, "has no effect without control.governance (an issuer also with passes = \"oidc\"). Write its address, as in governance = \"127.0.0.1:9500\", or remove it")
			}
		}
		return
	}
	g.Governance = d.address("control.governance", f.Governance)
	dir := filepath.Dir(d.path)
	if g.People = f.People; g.People != "" {
		g.People = beside(dir, g.People)
		d.pem("control.people", g.People, "CERTIFICATE", "of the CA that issues certificates of people")
	}
	if g.AccessKey = f.AccessKey; g.AccessKey != "" {
		g.AccessKey = beside(dir, g.AccessKey)
		d.pem("control.access_key", g.AccessKey, "PUBLIC KEY", "of the public key of who signs the policy of access")
	}
	g.Access = f.Access
	switch remote := strings.HasPrefix(f.Access, "http://") || strings.HasPrefix(f.Access, "https://"); {
	case remote && f.AccessKey == "":
		d.bad("control.access", "a policy from elsewhere must be signed. Write the file of the signer's public key as access_key")
	case f.Access == "" && f.AccessKey != "":
		d.bad("control.access_key", "has no effect without control.access. Write where the policy is, or remove it")
	case f.Access != "" && !remote:
		g.Access = beside(dir, g.Access)
		if _, err := os.Stat(g.Access); err != nil {
			d.bad("control.access", "%v. Write the directory, the archive or the URL of a policy bundle, or remove the key for the policy that is built in", err)
		}
	}
}

// pem checks that a file holds a block of a type; what says what it is for.
func (d *document) pem(key, path, block, what string) {
	b, err := os.ReadFile(path)
	if err != nil {
		d.bad(key, "%v. Write the PEM file %s, or remove the key", err, what)
		return
	}
	for rest := b; ; {
		var found *pem.Block
		if found, rest = pem.Decode(rest); found == nil {
			d.bad(key, "%s holds no %s in PEM. Write the PEM file %s, or remove the key", path, block, what)
			return
		} else if found.Type == block {
			return
		}
	}
}

// ValidIndex reports whether a text is the URL of a database that can hold an index:
// it has a host, or one in its parameters.
func ValidIndex(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" {
		return false
	}
	q, err := url.ParseQuery(u.RawQuery)
	return err == nil && (u.Hostname() != "" || q.Get("host") != "")
}
