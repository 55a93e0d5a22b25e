package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Documents name code in backquotes: a path to a Go file, `internal/link/dial.go`,
// and after it, on the same line, what that file declares: `Dial`, `Endpoint`,
// `Endpoint.Dial`, `(*Endpoint).Dial()`. Paths stand from the root of the
// repository. A package is `internal/link` or `cmd/nyx`.
var (
	quoted     = regexp.MustCompile("`([^`]+)`")
	goFile     = regexp.MustCompile(`^[\w./-]+\.go$`)
	goName     = regexp.MustCompile(`^(?:\(\*?([A-Za-z]\w*)\)\.|([A-Za-z]\w*)\.)?([A-Za-z][A-Za-z0-9]*)(\(\))?$`)
	goPackage  = regexp.MustCompile(`^(?:internal|cmd)/[\w./-]+$`)
	goFileLine = regexp.MustCompile(`^([\w./-]+\.go):(\d+|[A-Za-z].*)$`)
)

// isDocument reports whether a file is held to what it says about code.
func isDocument(path string) bool {
	return path == "ARCHITECTURE.md" || path == "CONTRIBUTING.md" || filepath.ToSlash(filepath.Dir(path)) == "docs" && strings.HasSuffix(path, ".md")
}

// checkDocs: every file, package and function that a document names exists, and
// ARCHITECTURE.md names every package below internal and cmd.
func checkDocs(tr *tree) (found []violation) {
	for _, path := range tr.paths {
		if !isDocument(path) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(tr.root, filepath.FromSlash(path)))
		if err != nil {
			found = append(found, violationf(path, 0, "%v", err))
			continue
		}
		for i, line := range strings.Split(string(b), "\n") {
			for _, text := range checkDocLine(tr, line) {
				found = append(found, violationf(path, i+1, "%s", text))
			}
		}
		if path == "ARCHITECTURE.md" {
			for _, pkg := range unnamed(tr, string(b)) {
				found = append(found, violationf(path, 0, "has no line for the package %s", pkg))
			}
		}
	}
	return found
}

// unnamed lists the packages below internal and cmd that a text does not quote.
func unnamed(tr *tree, text string) (pkgs []string) {
	for _, f := range tr.files {
		if (under(f.pkg, "internal") || under(f.pkg, "cmd")) && !slices.Contains(pkgs, f.pkg) && !strings.Contains(text, "`"+f.pkg+"`") {
			pkgs = append(pkgs, f.pkg)
		}
	}
	return pkgs
}

// checkDocLine returns what is wrong with one line of a document.
func checkDocLine(tr *tree, line string) (wrong []string) {
	var present *file // the file that the names after it belong to
	for _, m := range quoted.FindAllStringSubmatch(line, -1) {
		word, name := m[1], ""
		if mm := goFileLine.FindStringSubmatch(word); mm != nil {
			word, name = mm[1], mm[2]
		}
		switch {
		case goFile.MatchString(word):
			i := slices.IndexFunc(tr.files, func(f *file) bool { return f.path == word })
			if i < 0 {
				wrong, present = append(wrong, "names "+word+", which does not exist"), nil
				continue
			}
			present = tr.files[i]
			if name != "" && !declares(present, name) {
				wrong = append(wrong, "names "+name+", which "+word+" does not declare")
			}
		case goPackage.MatchString(word):
			if !tr.has(strings.TrimSuffix(word, "/")) {
				wrong = append(wrong, "names "+word+", which does not exist")
			}
		case present != nil && isGoName(word) && !declares(present, word):
			wrong = append(wrong, "names "+word+", which "+present.path+" does not declare")
		}
	}
	return wrong
}

// isGoName reports whether a quoted word means a declaration: it is shaped like
// one, and has letters of both cases, a receiver, or parentheses.
func isGoName(word string) bool {
	m := goName.FindStringSubmatch(word)
	if m == nil {
		return false
	}
	if m[4] != "" || m[1] != "" {
		return true
	}
	return strings.ToLower(m[3]) != m[3] && strings.ToUpper(m[3]) != m[3]
}

// declares reports whether a file declares a name: a function, a method of any
// or of the named type, a type, a constant or a variable. A selector may also
// be package.Name.
func declares(f *file, word string) bool {
	m := goName.FindStringSubmatch(word)
	if m == nil || f.ast == nil {
		return false
	}
	receiver, name := m[1]+m[2], m[3]
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == name && (receiver == "" || receiver == receiverOf(d) || d.Recv == nil && receiver == f.ast.Name.Name) {
				return true
			}
		case *ast.GenDecl:
			if (receiver == "" || receiver == f.ast.Name.Name) && slices.ContainsFunc(d.Specs, func(s ast.Spec) bool { return specDeclares(s, name) }) {
				return true
			}
		}
	}
	return false
}

func specDeclares(s ast.Spec, name string) bool {
	switch s := s.(type) {
	case *ast.TypeSpec:
		return s.Name.Name == name
	case *ast.ValueSpec:
		return slices.ContainsFunc(s.Names, func(id *ast.Ident) bool { return id.Name == name })
	}
	return false
}

// receiverOf returns the name of a method's type.
func receiverOf(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if index, ok := expr.(*ast.IndexExpr); ok {
		expr = index.X
	}
	if id, ok := expr.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func TestGoNames(t *testing.T) {
	for word, is := range map[string]bool{
		"Dial": true, "handleData": true, "Endpoint.Dial": true, "(*Endpoint).Dial": true, "dial()": true, "Endpoint.dial()": true,
		"dial": false, "AEAD": false, "SESSION_INIT": false, "nyx up": false, "127.0.0.1": false, "--ready": false, "KEMPublic": true,
	} {
		if isGoName(word) != is {
			t.Errorf("%q is a Go name: %v, want %v", word, !is, is)
		}
	}
}
