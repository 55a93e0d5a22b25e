package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"unicode"
)

// ranks are the ranks of ARCHITECTURE.md times ten: a package imports only
// packages of lower rank. The last digit orders packages inside one rank.
// A package below one of these has its rank, unless it is listed itself.
var ranks = map[string]int{
	"internal/machine": 0,
	"internal/prng":    0,
	"internal/trace":   1,

	"internal/aggregate": 5, // measurements summed up

	"internal/wire": 10,
	"internal/seal": 10,
	"internal/fec":  10,

	"internal/seal/blind": 11, // signatures on what is not seen

	"internal/link":               20,
	"internal/directory":          20,
	"internal/directory/query":    21, // whom of its servers to ask
	"internal/directory/translog": 21, // documents in logs that witnesses cosign
	"internal/service":            20,
	"internal/pass":               20, // unlinkable tokens

	"internal/obfs": 30,
	"internal/mix":  30,

	"internal/stream/congestion": 40,

	"internal/stream":           50,
	"internal/control":          50,
	"internal/audit":            49, // events, which control makes too
	"internal/control/capacity": 50, // what nodes need for so many sessions
	"internal/session":          55, // the sessions of one machine
	"internal/hop":              55, // link and mix composed, as relay and gateway share it

	"internal/client":  60,
	"internal/relay":   60,
	"internal/gateway": 60,

	"internal/secret":                      65, // how secrets are named and kept
	"internal/secret/secrettest":           66, // for tests: what holds for every store of them
	"internal/registry":                    65, // what a directory authority must not forget
	"internal/registry/storetest":          67, // for tests: what holds for every store of it
	"internal/pipeline":                    65, // of audit events to the compliance store
	"internal/pipeline/bustest":            66, // for tests: what holds for every bus of it
	"internal/control/records":             65, // what a fleet knows of sessions
	"internal/control/records/recordstest": 66, // for tests: what holds for every store of them
	"internal/registry/changes":            66, // the configuration of a network, as events
	"internal/registry/mail":               66, // a bus in a store that processes share

	"internal/metric": 65, // the table of series, and pages of them
	"internal/spool":  65, // what is not taken now, on disk
	"internal/slo":    76, // objectives, and the rules that follow from them

	"internal/engine/oidc/oidctest": 69, // for tests: an issuer of tokens
	"internal/report":               75, // compliance reports of the audit log
	"internal/insight":              75, // aggregates of it, and the feed of dashboards

	"internal/engine":        70,
	"internal/engine/worm":   71, // copies of what engine/ledger keeps, in engine/s3
	"internal/carrier/inbox": 70, // what all carriers share
	"internal/carrier/pipe":  71, // connections that carry datagrams
	"internal/carrier/front": 71, // what a carrier's server shows to the world
	"internal/carrier":       72,
	"internal/carrier/joint": 73, // several carriers as one

	"internal/drive":     80,
	"internal/sim":       80,
	"internal/telemetry": 80,

	"internal/engine/otlp": 81, // sends the spans of telemetry

	"internal/mirror": 85, // replicas of the directory
	"internal/tunnel": 85, // streams of a driven machine as net.Conn
	"internal/pack":   86, // their content compressed
	"scenarios":       85, // the catalogue's data
	"deploy":          85, // files for programs beside this one

	"internal/lab/duo":                 86, // two ends of a session
	"internal/lab/cpu":                 86, // the processor time of a process
	"internal/lab/attack":              86, // what an adversary computes
	"internal/lab/vault":               86, // a double of a secret server
	"internal/lab/monitor":             86, // Prometheus and Alertmanager, run for tests and scenarios
	"internal/lab/servers":             86, // servers of others, run for tests and scenarios
	"internal/lab/servers/serverstest": 87, // for tests
	"internal/lab/stall":               86, // whether a process had a processor

	"internal/console": 90,
	"internal/proxy":   90,
	"internal/exit":    90,
	"internal/setup":   90,

	"internal/governance": 90, // HTTP API for those who read the audit log
	"internal/usage":      91, // what the command line tells of its use
	"internal/lab":        92, // scenarios, some of which ask that API and that line

	"":                   105, // package nyx, the SDK
	"internal/bench":     105, // measures whole networks
	"internal/cli":       105, // commands of both programs
	"internal/doctor":    103, // finds out what is wrong
	"internal/daemon":    100,
	"internal/anonymity": 100, // attacks on whole simulated networks
	"cmd":                110,
	"test":               110, // programs that the end-to-end test runs
	"internal/archtest":  110,
}

// coreRankMax is the highest rank of the protocol cores: they run under the
// simulator and the UDP runtime alike, so they see no input but their
// arguments.
const coreRankMax = 60

// rankOf returns the rank of a package, by its longest listed prefix.
func rankOf(pkg string) (rank int, ok bool) {
	for p := pkg; ; {
		if rank, ok := ranks[p]; ok && (p != "" || pkg == "") {
			return rank, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return 0, false
		}
		p = p[:i]
	}
}

func isCore(pkg string) bool {
	rank, ok := rankOf(pkg)
	return ok && rank <= coreRankMax
}

// checkRanks: imports go to lower ranks only. Tests may import any package.
func checkRanks(tr *tree) (found []violation) {
	unranked := map[string]bool{}
	for _, f := range tr.files {
		own, ok := rankOf(f.pkg)
		if !ok && !unranked[f.pkg] {
			unranked[f.pkg] = true
			found = append(found, violationf(f.path, 1, "package %s has no rank; give it one in internal/archtest/rules_test.go and in ARCHITECTURE.md", f.pkg))
		}
		if f.test || !ok {
			continue
		}
		tr.imports(f, func(path string, line int) {
			rest, ok := strings.CutPrefix(path, module)
			if !ok {
				return
			}
			other, ok := rankOf(strings.TrimPrefix(rest, "/"))
			if ok && other >= own {
				found = append(found, violationf(f.path, line, "imports %s of rank %d.%d from rank %d.%d; imports go to lower ranks only", path, other/10, other%10, own/10, own%10))
			}
		})
	}
	return found
}

// coreBans are the imports that a core may not have, with the reason. A path
// that ends in / bans what lies below it.
var coreBans = []struct{ path, reason string }{
	{"net", "a core does no I/O; addresses are net/netip"},
	{"net/", "a core does no I/O; addresses are net/netip"},
	{"os", "a core does no I/O"},
	{"os/", "a core does no I/O"},
	{"io/ioutil", "a core does no I/O"},
	{"syscall", "a core does no I/O"},
	{"golang.org/x/sys/", "a core does no I/O"},
	{"golang.org/x/net/", "a core does no I/O"},
	{"log", "a core emits trace events, never a log line"},
	{"log/", "a core emits trace events, never a log line"},
	{"sync", "a core has one owner and no lock"},
	{"sync/", "a core has one owner and no lock"},
	{"context", "a core is called, it does not wait"},
	{"runtime", "a core does not know what runs it"},
	{"runtime/", "a core does not know what runs it"},
	{"hash/maphash", "its seed is random per process; use a hash of seal or prng"},
	{"testing", "tests belong into _test.go files"},
}

// coreExceptions lists what single packages may import all the same, and why.
var coreExceptions = []struct{ pkg, path, reason string }{
	{"internal/audit", "context", "declares the interfaces of who makes events last; nothing in it waits"},
}

func coreException(pkg, path string) bool {
	for _, e := range coreExceptions {
		if e.pkg == pkg && e.path == path {
			return true
		}
	}
	return false
}

// coreAllowed lie below a banned path, and do none of what it is banned for.
var coreAllowed = []string{"net/netip", "golang.org/x/sys/cpu"}

// clockNames are the names of package time that read a clock or wait for one.
var clockNames = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// checkCores: a core does no I/O, reads no clock, starts nothing, waits for
// nothing, and prints nothing.
func checkCores(tr *tree) (found []violation) {
	for _, f := range tr.files {
		if f.test || f.ast == nil || !isCore(f.pkg) {
			continue
		}
		add := func(line int, format string, args ...any) {
			found = append(found, violationf(f.path, line, format, args...))
		}
		tr.imports(f, func(path string, line int) {
			for _, ban := range coreBans {
				if !slices.Contains(coreAllowed, path) && !coreException(f.pkg, path) && (path == ban.path || strings.HasSuffix(ban.path, "/") && strings.HasPrefix(path, ban.path)) {
					add(line, "core imports %s: %s", path, ban.reason)
				}
			}
		})
		tr.mentions(f, "time", func(name string, line int) {
			if slices.Contains(clockNames, name) {
				add(line, "core calls time.%s: time is an argument (machine.Time)", name)
			}
		})
		tr.mentions(f, "fmt", func(name string, line int) {
			if strings.HasPrefix(name, "Print") || strings.HasPrefix(name, "Scan") {
				add(line, "core calls fmt.%s: a core does no I/O", name)
			}
		})
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if what := concurrency(n); what != "" {
				add(tr.line(n), "core has a %s: goroutines and waiting belong to drive", what)
			}
			return true
		})
	}
	return found
}

// concurrency names what a node starts, waits for or prints; "" for most.
func concurrency(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go statement"
	case *ast.SelectStmt:
		return "select"
	case *ast.ChanType:
		return "channel"
	case *ast.SendStmt:
		return "channel send"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "channel receive"
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
			return id.Name
		}
	}
	return ""
}

// cryptoAllowed lists who, beside seal, may import what of cryptography and
// randomness, and why.
var cryptoAllowed = []struct{ pkg, path, reason string }{
	{"internal/prng", "crypto/sha256", "derives the seeds of streams"},
	{"internal/prng", "math/rand/v2", "ChaCha8 generator"},
	{"internal/drive", "crypto/rand", "the seed of a process"},
	{"internal/daemon", "crypto/rand", "the seed of a process"},
	{"internal/setup", "crypto/rand", "the seeds of new keys"},
	{"", "crypto/rand", "the seed of a process"},
	{"internal/sim", "crypto/sha256", "trace hash"},
	{"internal/registry", "crypto/sha256", "the hash of snapshots"},
	{"internal/lab", "crypto/sha256", "evidence and trace hash"},
	{"internal/carrier", "crypto/tls", "carriers over TLS; Nyx's own secrecy does not rest on it"},
	{"internal/carrier/front", "crypto/x509", "certificates of carriers over TLS"},
	{"internal/carrier/front", "crypto/x509/pkix", "certificates of carriers over TLS"},
	{"internal/carrier/front", "crypto/ecdsa", "keys of certificates that nobody else has issued"},
	{"internal/carrier/front", "crypto/elliptic", "keys of certificates that nobody else has issued"},
	{"internal/carrier/front", "crypto/rand", "keys of certificates that nobody else has issued"},
	{"internal/mirror", "crypto/tls", "HTTP of replicas; what they serve is signed"},
	{"internal/console", "crypto/tls", "HTTP of operators"},
	{"internal/governance", "crypto/tls", "HTTP of auditors and operators"},
	{"internal/governance", "crypto/x509", "certificates of auditors and operators"},
	{"internal/engine", "crypto/tls", "connections to engines"},
	{"internal/engine/secrets", "crypto/rand", "salts, and pauses before a server is asked again"},
	{"internal/control/records", "crypto/rand", "salts of sealed state"},
	{"internal/secret", "crypto/rand", "wrapping keys and their salts"},
	{"internal/spool", "crypto/rand", "salts of boxes, and names of files"},
	{"internal/usage", "crypto/rand", "moments at which is told"},
	{"internal/lab/vault", "crypto/rand", "tokens of a double"},
	{"internal/engine", "crypto/x509", "connections to engines"},
	{"internal/engine/s3", "crypto/hmac", "signatures of requests, as S3 has them"},
	{"internal/engine/s3", "crypto/sha256", "signatures of requests, as S3 has them"},
	{"internal/engine/ledger", "crypto/rand", "keys of segments and IDs of events"},
	{"internal/bench", "crypto/ecdh", "the floor of a set-up, timed and not used"},
	{"internal/bench", "crypto/mlkem", "the floor of a set-up, timed and not used"},
	{"test", "crypto/sha256", "compares transfers"},
}

// isCrypto reports whether an import path is cryptography or randomness.
func isCrypto(path string) bool {
	switch path {
	case "crypto", "math/rand", "math/rand/v2", "filippo.io/mldsa":
		return true
	}
	for _, p := range []string{"crypto/", "golang.org/x/crypto/", "filippo.io/mldsa/", "github.com/cloudflare/circl/"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// checkCrypto: seal is the only importer of primitives.
func checkCrypto(tr *tree) (found []violation) {
	for _, f := range tr.files {
		if f.test || under(f.pkg, "internal/seal") {
			continue
		}
		tr.imports(f, func(path string, line int) {
			if !isCrypto(path) {
				return
			}
			for _, a := range cryptoAllowed {
				if a.path == path && (f.pkg == a.pkg || a.pkg != "" && under(f.pkg, a.pkg)) {
					return
				}
			}
			found = append(found, violationf(f.path, line, "imports %s: only internal/seal imports cryptography, only internal/prng random generators", path))
		})
	}
	return found
}

// checkProxy: the proxy has no way out but its Dialer.
func checkProxy(tr *tree) (found []violation) {
	for _, f := range tr.files {
		if f.test || f.ast == nil || !under(f.pkg, "internal/proxy") {
			continue
		}
		tr.mentions(f, "net", func(name string, line int) {
			for _, p := range []string{"Dial", "Lookup", "Resolve", "DefaultResolver"} {
				if strings.HasPrefix(name, p) {
					found = append(found, violationf(f.path, line, "proxy uses net.%s: everything goes through the Dialer, names unresolved", name))
				}
			}
		})
		tr.imports(f, func(path string, line int) {
			if path == "net/http" || path == "os/exec" {
				found = append(found, violationf(f.path, line, "proxy imports %s: everything goes through the Dialer", path))
			}
		})
	}
	return found
}

// cSuffixes are the files of which a pure Go build has none.
var cSuffixes = []string{".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".m", ".mm", ".f", ".f90", ".swig", ".swigcxx", ".syso", ".a", ".o", ".so", ".dll", ".dylib", ".lib"}

// checkPureGo: no C source, no library, no cgo.
func checkPureGo(tr *tree) (found []violation) {
	for _, path := range tr.paths {
		name := strings.ToLower(path)
		for _, suffix := range cSuffixes {
			if strings.HasSuffix(name, suffix) {
				found = append(found, violationf(path, 0, "C source or library; Nyx is pure Go"))
			}
		}
	}
	for _, f := range tr.files {
		tr.imports(f, func(path string, line int) {
			if path == "C" || path == "runtime/cgo" {
				found = append(found, violationf(f.path, line, "imports %q; Nyx is pure Go", path))
			}
		})
	}
	return found
}

const linesMax = 600 // of one file; a chapter has 80 to 400

// vagueNames are package names that say nothing about what is inside.
var vagueNames = []string{"util", "utils", "common", "helpers", "helper", "types", "errors", "config", "misc", "base"}

// checkStyle: every file parses and is a chapter, names say something, nothing
// is left for later, and no test sleeps (except on the virtual clock of
// testing/synctest).
func checkStyle(tr *tree) (found []violation) {
	documented, first := map[string]bool{}, map[string]string{}
	for _, f := range tr.files {
		if f.err != nil {
			found = append(found, violationf(f.path, 0, "does not parse: %v", f.err))
		}
		if f.ast == nil {
			continue
		}
		if n := strings.Count(string(f.src), "\n"); n > linesMax {
			found = append(found, violationf(f.path, 0, "%d lines; the most is %d", n, linesMax))
		}
		if !f.test {
			documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil
			if first[f.pkg] == "" {
				first[f.pkg] = f.path
			}
		}
		if slices.Contains(vagueNames, f.ast.Name.Name) {
			found = append(found, violationf(f.path, tr.line(f.ast.Name), "package name %s says nothing; name what it is about", f.ast.Name.Name))
		}
		for _, spec := range f.ast.Imports {
			if spec.Name != nil && spec.Name.Name == "." {
				found = append(found, violationf(f.path, tr.line(spec), "dot import hides where names come from"))
			}
		}
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if left := unfinished(c.Text); left != "" {
					found = append(found, violationf(f.path, tr.line(c), "%s left in a comment; do it, or open an issue", left))
				}
			}
		}
		if f.test && len(imported(f, "testing/synctest")) == 0 {
			tr.mentions(f, "time", func(name string, line int) {
				if name == "Sleep" {
					found = append(found, violationf(f.path, line, "test sleeps: wait for an event, or use virtual time"))
				}
			})
		}
	}
	for pkg, path := range first {
		if !documented[pkg] {
			found = append(found, violationf(path, 0, "package %s has no package comment", pkg))
		}
	}
	return found
}

// unfinished returns the mark of unfinished work in a comment.
func unfinished(comment string) string {
	for _, mark := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"} {
		for word := range strings.FieldsFuncSeq(comment, func(r rune) bool { return !unicode.IsLetter(r) }) {
			if word == mark {
				return mark
			}
		}
	}
	return ""
}
