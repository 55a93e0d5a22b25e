package setup

import (
	"path/filepath"
	"strings"
)

// StoreConfig is where an authority keeps its state.
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

// Engines of an authority's state.
const (
	StoreEtcd    StoreKind = iota // in the process
	StoreCluster                  // etcd elsewhere
	StoreFiles
)

func (d *document) store(s *StoreConfig, f *configFile) {
	a := &f.Authority
	switch a.Store {
	case "", "etcd":
	case "files":
		s.Kind = StoreFiles
	default:
		s.Kind = StoreCluster
		for u := range strings.SplitSeq(a.Store, ",") {
			u = strings.TrimSpace(u)
			if rest, ok := strings.CutPrefix(strings.Replace(u, "https://", "http://", 1), "http://"); !ok || rest == "" || strings.ContainsAny(rest, " \t/") {
				d.bad("authority.store", "%q is not a place for state. Write \"etcd\", \"files\", or the URLs of an etcd cluster as in \"https://a:2379,https://b:2379\"", u)
			}
			s.URLs = append(s.URLs, u)
		}
	}
	if s.Kind != StoreCluster && (a.StoreCA != "" || a.StoreCertificate != "" || a.StoreKey != "") {
		d.bad("authority.store", "store_ca, store_certificate and store_key are for a cluster. Write its URLs, or remove them")
	}
	if (a.StoreCertificate == "") != (a.StoreKey == "") {
		d.bad("authority.store_certificate", "certificate and key go together. Write both, or neither")
	}
	dir := filepath.Dir(d.path)
	for _, file := range []struct {
		from string
		to   *string
	}{{a.StoreCA, &s.CA}, {a.StoreCertificate, &s.Certificate}, {a.StoreKey, &s.Key}} {
		if file.from != "" {
			*file.to = beside(dir, file.from)
		}
	}
}
