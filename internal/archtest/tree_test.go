package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path in front of every package of this repository.
const module = "github.com/nyxnet/nyx"

// tree is the source of one repository.
type tree struct {
	root  string
	paths []string // of all files, slashed, relative to root, sorted
	files []*file  // the Go files among them
	fset  *token.FileSet
}

// file is one parsed Go file.
type file struct {
	path string
	pkg  string // its package's path inside the module; "" is the root package
	test bool
	ast  *ast.File
	src  []byte
	err  error // why it does not parse
}

// violation is one broken rule.
type violation struct {
	path string
	line int // 0: the whole file
	text string
}

func (v violation) String() string {
	if v.line == 0 {
		return v.path + ": " + v.text
	}
	return v.path + ":" + strconv.Itoa(v.line) + ": " + v.text
}

// load reads a tree. Hidden folders and test data are no part of it.
func load(t *testing.T, root string) *tree {
	t.Helper()
	tr := &tree{root: root, fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		tr.paths = append(tr.paths, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tr.paths {
		if strings.HasSuffix(path, ".go") {
			tr.files = append(tr.files, tr.parse(t, path))
		}
	}
	return tr
}

func (tr *tree) parse(t *testing.T, path string) *file {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(tr.root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	f := &file{path: path, test: strings.HasSuffix(path, "_test.go"), src: src}
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		f.pkg = path[:i]
	}
	f.ast, f.err = parser.ParseFile(tr.fset, path, src, parser.ParseComments)
	return f
}

func (tr *tree) line(n ast.Node) int { return tr.fset.Position(n.Pos()).Line }

// has reports whether a file or folder of this path exists.
func (tr *tree) has(path string) bool {
	_, found := slices.BinarySearch(tr.paths, path)
	return found || slices.ContainsFunc(tr.paths, func(p string) bool { return strings.HasPrefix(p, path+"/") })
}

// imports yields the import paths of a file with their lines.
func (tr *tree) imports(f *file, yield func(path string, line int)) {
	if f.ast == nil {
		return
	}
	for _, spec := range f.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			yield(path, tr.line(spec))
		}
	}
}

// imported returns the names by which a file calls a package.
func imported(f *file, path string) (names []string) {
	for _, spec := range f.ast.Imports {
		if spec.Path.Value != strconv.Quote(path) {
			continue
		}
		if spec.Name != nil {
			names = append(names, spec.Name.Name)
		} else {
			names = append(names, path[strings.LastIndexByte(path, '/')+1:])
		}
	}
	return names
}

// mentions yields every mention of a name of an imported package, called or
// not.
func (tr *tree) mentions(f *file, path string, yield func(name string, line int)) {
	local := imported(f, path)
	if len(local) == 0 {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(local, id.Name) {
			yield(sel.Sel.Name, tr.line(sel))
		}
		return true
	})
}

// under reports whether a package is p or lies below it.
func under(pkg, p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") }

// repository is the tree that these tests stand in.
func repository(t *testing.T) *tree {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the repository is not at %s: %v", root, err)
	}
	return load(t, root)
}

// report fails the test with every violation.
func report(t *testing.T, found []violation) {
	t.Helper()
	for _, v := range found {
		t.Error(v)
	}
}

// violationf builds a violation.
func violationf(path string, line int, format string, args ...any) violation {
	return violation{path, line, fmt.Sprintf(format, args...)}
}
