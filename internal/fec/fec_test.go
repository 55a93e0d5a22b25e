package fec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func shardsOf(data, parity, size int) [][]byte {
	s := make([][]byte, data+parity)
	for i := range s {
		s[i] = make([]byte, size)
		for k := range s[i] {
			if i < data {
				s[i][k] = byte(i*31 + k*7 + 1)
			}
		}
	}
	return s
}

// The vector fixes the code: another implementation must give these bytes. They
// follow from the matrix in docs/protocol.md, section 5, by hand as well.
func TestCodeIsTheOneOfTheSpecification(t *testing.T) {
	s := shardsOf(9, 3, 8)
	if err := New(9, 3).Encode(s); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"da1e267d34637c8e", "92154584e39a722f", "d7b7643ec299adda"} {
		if got := hex.EncodeToString(s[9+i]); got != want {
			t.Errorf("parity %d is %s, want %s", i, got, want)
		}
	}
}

// Every pattern of up to three losses is rebuilt, and no pattern of four.
func TestEveryLossPatternOfATrain(t *testing.T) {
	c := New(9, 3)
	whole := shardsOf(9, 3, 40)
	if err := c.Encode(whole); err != nil {
		t.Fatal(err)
	}
	for have := range 1 << 12 {
		s := make([][]byte, 12)
		lost := 0
		for i := range s {
			s[i] = bytes.Clone(whole[i])
			if have&(1<<i) == 0 {
				clear(s[i])
				s[i] = s[i][:0]
				lost++
			}
		}
		if lost > 4 {
			continue
		}
		err := c.Rebuild(s)
		if lost == 4 {
			if !errors.Is(err, ErrShards) {
				t.Fatalf("four shards of twelve lost (%012b): %v", have, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%012b: %v", have, err)
		}
		for i := range 9 {
			if !bytes.Equal(s[i], whole[i]) {
				t.Fatalf("%012b: shard %d came out wrong", have, i)
			}
		}
	}
}

func TestAnyCodeRebuilds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, parity := rapid.IntRange(1, 20).Draw(t, "data"), rapid.IntRange(1, 8).Draw(t, "parity")
		c := New(data, parity)
		whole := make([][]byte, data+parity)
		size := rapid.IntRange(1, 100).Draw(t, "size")
		for i := range whole {
			whole[i] = rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "shard")
		}
		if err := c.Encode(whole); err != nil {
			t.Fatal(err)
		}
		s := make([][]byte, len(whole))
		copy(s, whole)
		for range parity {
			s[rapid.IntRange(0, len(s)-1).Draw(t, "lost")] = nil
		}
		if err := c.Rebuild(s); err != nil {
			t.Fatal(err)
		}
		for i := range data {
			if !bytes.Equal(s[i], whole[i]) {
				t.Fatalf("shard %d came out wrong", i)
			}
		}
	})
}

func TestUnequalShardsAreRefused(t *testing.T) {
	c := New(2, 1)
	if err := c.Encode([][]byte{{1}, {1, 2}, {0}}); !errors.Is(err, ErrShards) {
		t.Errorf("unequal shards encode: %v", err)
	}
	if err := c.Encode([][]byte{{1}}); !errors.Is(err, ErrShards) {
		t.Errorf("one shard of three encodes: %v", err)
	}
	if err := c.Rebuild([][]byte{{1}}); !errors.Is(err, ErrShards) {
		t.Errorf("one shard of three rebuilds: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a code of no shards was made")
		}
	}()
	New(0, 3)
}

func BenchmarkEncodeTrain(b *testing.B) {
	c, s := New(9, 3), shardsOf(9, 3, 1246)
	b.SetBytes(9 * 1246)
	b.ReportAllocs()
	for range b.N {
		if err := c.Encode(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRebuildTrain(b *testing.B) {
	c, s := New(9, 3), shardsOf(9, 3, 1246)
	b.SetBytes(9 * 1246)
	b.ReportAllocs()
	for range b.N {
		s[0], s[4], s[7] = s[0][:0], s[4][:0], s[7][:0]
		if err := c.Rebuild(s); err != nil {
			b.Fatal(err)
		}
	}
}
