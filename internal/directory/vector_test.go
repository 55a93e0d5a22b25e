package directory

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the test vectors anew")

var vectorFile = filepath.Join("testdata", "vectors.txt")

// TestVectors holds the formats still: what is deterministic is made again and
// must be equal; what is signed (ML-DSA signatures are randomized) must verify.
func TestVectors(t *testing.T) {
	descriptor := testDescriptor(t, 1, RoleEntry|RoleExit, func(n *Node) {
		n.Exit.Ports = []PortRange{{80, 80}, {443, 443}}
		n.Addrs = addrs("10.1.0.1:9400", "[fd00::1]:9400")
	})
	a := testAuthorities(t, 2, 3, descriptor, testDescriptor(t, 2, RoleMix, nil))
	d := a.document(t, testEpoch, 0, testWall, 0, 2)
	entry := d.entries[0]
	made := map[string][]byte{
		"descriptor": descriptor, "document": d.Encode(), "header": d.header, "entry": entry, "root": d.Root[:],
		"bulletin body": testBulletin(d).body(), "report body": testReport(t, 1).body(),
		"bulletin": signedBulletin(t, 1000, testBulletin(d)), "report": signedReport(t, 1, testReport(t, 1)),
		"table": d.Table(), "bucket": d.Bucket(0),
	}
	for i, key := range a.trust.Authorities {
		id := AuthorityID(key)
		made[fmt.Sprintf("authority %d", i)] = id[:]
	}
	if *rewrite {
		writeVectors(t, made)
	}
	stored := readVectors(t)
	for name, b := range made {
		signed := slices.Contains([]string{"descriptor", "document", "table", "bulletin", "report"}, name)
		if !signed && !bytes.Equal(stored[name], b) {
			t.Errorf("%s differs from the vector; if the format was meant to change, run: go test ./internal/directory -run TestVectors -rewrite", name)
		}
	}
	got, err := Verify(stored["document"], &a.trust, testWall)
	if err != nil {
		t.Fatal(err)
	}
	if got.Hash() != d.Hash() || len(got.Signatures()) != 2 {
		t.Error("the stored document is another")
	}
	if _, err := ParseBucket(stored["bucket"], &got.Header); err != nil {
		t.Error(err)
	}
	if table, err := VerifyTable(stored["table"], &a.trust, testWall); err != nil || table.Hash() != d.Hash() {
		t.Errorf("the stored table: %v", err)
	}
	if news, err := testBoard(t, &a.trust).Accept(stored["bulletin"]); err != nil || !news {
		t.Errorf("the stored bulletin: %v", err)
	}
	if _, err := a.all[0].TakeReport(stored["report"], testWall); err != nil {
		t.Errorf("the stored report: %v", err)
	}
	node, err := ParseDescriptor(stored["descriptor"])
	if err != nil {
		t.Fatal(err)
	}
	if listed, ok := testViewOf(t, got).Node(node.ID); !ok || listed.Digest != node.Digest {
		t.Error("the stored descriptor is not the one in the document")
	}
}

func testViewOf(t *testing.T, d *Document) *View {
	t.Helper()
	v, err := NewView(d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func writeVectors(t *testing.T, vectors map[string][]byte) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Test vectors of the directory formats, in base64. Made by: go test -run TestVectors -rewrite\n")
	for _, name := range []string{"authority 0", "authority 1", "authority 2", "root", "header", "entry", "bucket", "table", "bulletin body", "report body", "bulletin", "report", "descriptor", "document"} {
		fmt.Fprintf(&b, "%s: %s\n", name, base64.StdEncoding.EncodeToString(vectors[name]))
	}
	if err := os.MkdirAll(filepath.Dir(vectorFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readVectors(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte)
	for _, line := range strings.Split(string(text), "\n") {
		name, encoded, ok := strings.Cut(line, ": ")
		if !ok || line[0] == '#' {
			continue
		}
		if out[name], err = base64.StdEncoding.DecodeString(encoded); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
