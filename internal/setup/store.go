package setup

import (
	"path/filepath"
	"strings"
)

// StoreConfig is where an authority keeps its state, or a control process the
// configuration of the network.
type StoreConfig struct {
	// Kind is the engine.
	Kind StoreKind
	// URLs are those of a cluster.
	URLs []string
	// CA, Certificate and Key are PEM files for https; "" for what the system
	// trusts, and for no certificate of our own.
	CA, Certificate, Key string
}

// StoreKind is an engine.
type StoreKind int

// Engines.
const (
	StoreEtcd    StoreKind = iota // in the process
	StoreCluster                  // etcd elsewhere
	StoreFiles                    // of an authority
	StoreNone                     // of a control process: another one has it
	StoreMembers                  // of control processes that are a cluster among themselves
)

// storeFile is a store as a table has it.
type storeFile struct{ store, ca, certificate, key string }

// store reads a store of a table; word is what may stand there beside etcd and URLs, and
// means kind.
func (d *document) store(s *StoreConfig, table, word string, kind StoreKind, in storeFile) {
	switch in.store {
	case "", "etcd":
	case word:
		s.Kind = kind
	default:
		s.Kind = StoreCluster
		for u := range strings.SplitSeq(in.store, ",") {
			u = strings.TrimSpace(u)
			if rest, ok := strings.CutPrefix(strings.Replace(u, "https://", "http://", 1), "http://"); !ok || rest == "" || strings.ContainsAny(rest, " \t/") {
				d.bad(table+".store", "%q is not a place for state. Write \"etcd\", \"%s\", or the URLs of an etcd cluster as in \"https://a:2379,https://b:2379\"", u, word)
			}
			s.URLs = append(s.URLs, u)
		}
	}
	if s.Kind != StoreCluster && (in.ca != "" || in.certificate != "" || in.key != "") {
		d.bad(table+".store", "store_ca, store_certificate and store_key are for a cluster. Write its URLs, or remove them")
	}
	if (in.certificate == "") != (in.key == "") {
		d.bad(table+".store_certificate", "certificate and key go together. Write both, or neither")
	}
	s.CA, s.Certificate, s.Key = d.file(in.ca), d.file(in.certificate), d.file(in.key)
}

// file makes a path of the file relative to its directory; "" stays.
func (d *document) file(path string) string {
	if path == "" {
		return ""
	}
	return beside(filepath.Dir(d.path), path)
}
