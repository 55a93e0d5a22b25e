package archtest

import "go/ast"

// stepsAllowed are the places at which somebody is given to hear of the steps of sessions,
// and of whose: those of probes (docs/telemetry.md, Traces).
var stepsAllowed = map[string]string{
	"internal/daemon/prober.go":   "client.Config",
	"internal/daemon/node.go":     "gateway.Config",
	"internal/gateway/gateway.go": "", // hands on what its configuration has
}

// checkTraces: nobody hears of the steps of a session but who probes. What sets the field
// Steps is a trace of whoever uses the client.
func checkTraces(tr *tree) (found []violation) {
	for _, f := range tr.files {
		if f.test || f.ast == nil {
			continue
		}
		of, allowed := stepsAllowed[f.path]
		add := func(n ast.Node) {
			found = append(found, violationf(f.path, tr.line(n), "sets Steps: only probes are traced"))
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				for _, e := range n.Elts {
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Steps" && !(allowed && typeName(n.Type) == of) {
						add(kv)
					}
				}
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					if s, ok := to.(*ast.SelectorExpr); ok && s.Sel.Name == "Steps" && !(allowed && of == "") {
						add(to)
					}
				}
			}
			return true
		})
	}
	return found
}

// typeName is a type of another package as a file names it.
func typeName(t ast.Expr) string {
	if s, ok := t.(*ast.SelectorExpr); ok {
		if of, ok := s.X.(*ast.Ident); ok {
			return of.Name + "." + s.Sel.Name
		}
	}
	return ""
}
