package metric

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the table in docs/telemetry.md")

const (
	document = "../../docs/telemetry.md"
	begin    = "<!-- The table is written by: go test ./internal/metric -run DocumentHoldsTheTable -rewrite -->\n"
	end      = "<!-- end of the table -->\n"
)

// The document shows the table: every series with its rule of privacy.
func TestDocumentHoldsTheTable(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	shown, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", document)
	}
	var want strings.Builder
	want.WriteString("\n| series | kind | unit | rule | what it is |\n|---|---|---|---|---|\n")
	for _, m := range Table {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Kind, m.Unit, m.Rule, m.Help)
	}
	want.WriteString("\n")
	if *rewrite {
		if err := os.WriteFile(document, []byte(head+begin+want.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want.String() {
		t.Error("docs/telemetry.md does not show the table: go test ./internal/metric -run DocumentHoldsTheTable -rewrite")
	}
}
