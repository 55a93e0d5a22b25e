//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A place is something of the operator's side in which names are searched for.
type place struct {
	kind, name string
	content    []byte
}

// A needle is a name that is searched for, in all forms in which it might be written.
type needle struct {
	name  string
	exact [][]byte // bytes as they stand
	fold  [][]byte // in lower case; the place's case does not matter
}

// needleOf is one of a text: as it is, backwards, in hexadecimal, base64 at every
// offset, UTF-16, and hashed.
func needleOf(text string) needle {
	lower, hash := strings.ToLower(text), sha256.Sum256([]byte(text))
	backwards := []byte(lower)
	slices.Reverse(backwards)
	n := needle{name: text, exact: [][]byte{hash[:], wide(text)}}
	n.fold = [][]byte{[]byte(lower), backwards, []byte(hex.EncodeToString([]byte(text))), []byte(hex.EncodeToString(hash[:]))}
	for _, c := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		n.exact = append(n.exact, []byte(c.EncodeToString(hash[:])))
		for before := range 3 {
			n.exact = append(n.exact, base64At(c, text, before))
		}
	}
	return n
}

// base64At is what of a text shows in base64 whatever stands around it, before bytes into
// a group of three.
func base64At(c *base64.Encoding, text string, before int) []byte {
	whole := c.EncodeToString(append(make([]byte, before), text...))
	bits := 8 * (before + len(text))
	return []byte(whole[(8*before+5)/6 : bits/6])
}

func wide(text string) (b []byte) {
	for _, c := range []byte(text) {
		b = append(b, c, 0)
	}
	return b
}

// addressNeedle is one of an address with its port: as bytes, in both orders of the
// port's, and hashed. Four bytes alone would be found by chance; as text it has that of
// the address alone.
func addressNeedle(a netip.AddrPort) needle {
	ip, hash := a.Addr().As4(), sha256.Sum256([]byte(a.String()))
	return needle{name: a.String() + " in bytes", fold: [][]byte{[]byte(hex.EncodeToString(hash[:]))}, exact: [][]byte{
		binary.BigEndian.AppendUint16(ip[:4:4], a.Port()), binary.LittleEndian.AppendUint16(ip[:4:4], a.Port()), hash[:],
	}}
}

// hits are the places with a needle, as "kind name: needle".
func hits(places []place, needles []needle) (found []string) {
	for _, p := range places {
		content := bytes.TrimRight(p.content, "\x00") // of files that are made larger beforehand
		lower := bytes.ToLower(content)
		for _, n := range needles {
			is := func(in []byte) func([]byte) bool {
				return func(b []byte) bool { return bytes.Contains(in, b) }
			}
			if slices.ContainsFunc(n.exact, is(content)) || slices.ContainsFunc(n.fold, is(lower)) {
				found = append(found, fmt.Sprintf("%s %s: %s", p.kind, p.name, n.name))
			}
		}
	}
	return found
}

// The search finds a name in every form, and does not find what is not there.
func TestSearchFindsEveryForm(t *testing.T) {
	const name = "alice-planted-7f3a"
	n, hash := needleOf(name), sha256.Sum256([]byte(name))
	forms := map[string]string{
		"plain": name, "upper": strings.ToUpper(name), "backwards": "a3f7-detnalp-ecila", "hex": hex.EncodeToString([]byte(name)),
		"HEX": strings.ToUpper(hex.EncodeToString([]byte(name))), "wide": string(wide(name)), "hash": string(hash[:]), "hash in hex": fmt.Sprintf("%X", hash),
	}
	for before := range 7 {
		for after := range 7 {
			around := strings.Repeat("\xfe", before) + name + strings.Repeat("\xfd", after)
			forms[fmt.Sprint("base64 ", before, after)] = base64.StdEncoding.EncodeToString([]byte(around))
			forms[fmt.Sprint("base64url ", before, after)] = base64.RawURLEncoding.EncodeToString([]byte(around))
		}
	}
	for form, text := range forms {
		if len(hits([]place{{"file", form, []byte("\x01\x02 " + text + "\x03")}}, []needle{n})) != 1 {
			t.Errorf("it is not found: %s", form)
		}
	}
	a := netip.MustParseAddrPort("127.77.3.9:4711")
	raw, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if len(hits([]place{{"file", "address", raw}}, []needle{addressNeedle(a)})) != 1 {
		t.Error("an address in bytes is not found")
	}
	if len(hits([]place{{"file", "hash", fmt.Appendf(nil, "%x", sha256.Sum256([]byte(a.String())))}}, []needle{addressNeedle(a)})) != 1 {
		t.Error("an address that was hashed is not found")
	}
	if found := hits([]place{{"file", "other", []byte("alice-planted-7f3b 127.77.3.9:4711")}}, []needle{n, addressNeedle(a)}); found != nil {
		t.Errorf("what is not there is found: %q", found)
	}
}
