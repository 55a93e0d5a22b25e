package archtest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// listed is what go list says about one package.
type listed struct {
	ImportPath string
	Standard   bool
	CgoFiles, CFiles, CXXFiles, MFiles, HFiles, FFiles,
	SwigFiles, SwigCXXFiles, SysoFiles []string
}

// cFiles returns the files of a package that a C compiler or linker would see.
// Headers of assembly are no such files.
func (p *listed) cFiles() []string {
	return slices.Concat(p.CgoFiles, p.CFiles, p.CXXFiles, p.MFiles, p.FFiles, p.SwigFiles, p.SwigCXXFiles, p.SysoFiles)
}

// goTool runs the go command in the root of the repository, without cgo.
func goTool(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// dependencies lists packages with all that they import.
func dependencies(t *testing.T, patterns ...string) []listed {
	t.Helper()
	fields := "-json=ImportPath,Standard,CgoFiles,CFiles,CXXFiles,MFiles,HFiles,FFiles,SwigFiles,SwigCXXFiles,SysoFiles"
	dec := json.NewDecoder(bytes.NewReader(goTool(t, append([]string{"list", "-e", "-deps", fields}, patterns...)...)))
	var all []listed
	for dec.More() {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// TestBuildHasNoC: no package of the build, ours or not, brings C along.
func TestBuildHasNoC(t *testing.T) {
	for _, p := range dependencies(t, "./...") {
		if c := p.cFiles(); len(c) > 0 {
			t.Errorf("%s brings %v", p.ImportPath, c)
		}
		if p.ImportPath == "runtime/cgo" {
			t.Error("the build links runtime/cgo")
		}
	}
}

// engines are the modules that make a service of Nyx; a client or a relay
// links none of them.
var engines = []string{
	"github.com/nats-io/", "go.etcd.io/", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/open-policy-agent/",
	"github.com/transparency-dev/", "github.com/prometheus/", "go.opentelemetry.io/", "github.com/redis/", "github.com/maypok86/otter",
	"google.golang.org/grpc", "k8s.io/", "github.com/tetratelabs/wazero", "github.com/tink-crypto/", "github.com/quic-go/",
	module + "/internal/engine", module + "/internal/console",
}

// forbiddenInLite returns the packages that nyx-lite must not link.
func forbiddenInLite(packages []string) (bad []string) {
	for _, p := range packages {
		for _, e := range engines {
			if strings.HasPrefix(p, e) {
				bad = append(bad, p)
			}
		}
	}
	return bad
}

const (
	lite        = "cmd/nyx-lite"
	liteGolden  = "testdata/nyx-lite.deps"
	liteSizeMax = 13<<20 + 1<<19 // bytes, stripped: fits small routers and phones
)

// skipWithoutLite skips a test as long as there is no nyx-lite to look at.
func skipWithoutLite(t *testing.T) {
	t.Helper()
	if files, _ := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(lite), "*.go")); len(files) == 0 {
		t.Skipf("%s has no source", lite)
	}
}

// TestLiteDependencies compares what nyx-lite links with the golden list, so
// that a new dependency is a decision and not an accident.
func TestLiteDependencies(t *testing.T) {
	skipWithoutLite(t)
	var packages []string
	for _, p := range dependencies(t, "./"+lite) {
		if !p.Standard {
			packages = append(packages, p.ImportPath)
		}
	}
	slices.Sort(packages)
	for _, p := range forbiddenInLite(packages) {
		t.Errorf("nyx-lite links %s, which belongs to the full binary", p)
	}
	got := strings.Join(packages, "\n") + "\n"
	if *rewrite {
		write(t, ".", liteGolden, got)
		return
	}
	b, err := os.ReadFile(liteGolden)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./internal/archtest -run LiteDependencies -rewrite", err)
	}
	golden := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, p := range packages {
		if !slices.Contains(golden, p) {
			t.Errorf("nyx-lite links %s, which %s does not list; if that is meant: go test ./internal/archtest -run LiteDependencies -rewrite", p, liteGolden)
		}
	}
	for _, p := range golden {
		if !slices.Contains(packages, p) {
			t.Errorf("nyx-lite no longer links %s; rewrite %s", p, liteGolden)
		}
	}
}

func TestLiteControl(t *testing.T) {
	bad := forbiddenInLite([]string{"github.com/nats-io/nats.go", module + "/internal/link", module + "/internal/console/pages", "golang.org/x/sys/unix"})
	if len(bad) != 2 {
		t.Errorf("found %v, want the bus and the console", bad)
	}
	if c := (&listed{CFiles: []string{"a.c"}, HFiles: []string{"textflag.h"}}).cFiles(); len(c) != 1 {
		t.Errorf("C files %v, want a.c alone", c)
	}
}

// TestLiteSize builds nyx-lite as it ships and weighs it.
func TestLiteSize(t *testing.T) {
	skipWithoutLite(t)
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := filepath.Join(t.TempDir(), "nyx-lite")
	goTool(t, "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./"+lite)
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("nyx-lite: %.2f MiB", float64(info.Size())/(1<<20))
	if info.Size() > liteSizeMax {
		t.Errorf("nyx-lite has %d bytes; the most is %d", info.Size(), liteSizeMax)
	}
}

func read(t *testing.T, root, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
