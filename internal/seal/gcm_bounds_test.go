//go:build linux && amd64 && !purego

package seal

import (
	"bytes"
	"os"
	"syscall"
	"testing"
)

// edge returns a function whose slices of up to size bytes end where memory
// does: to read or write one byte beyond ends the test.
func edge(t *testing.T, size int) func(n int) []byte {
	t.Helper()
	page := os.Getpagesize()
	whole := (size + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, whole+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	if err := syscall.Mprotect(m[whole:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return func(n int) []byte { return m[whole-n : whole : whole] }
}

// Vectors of 64 bytes touch nothing behind the last byte of text, additional
// data, tag, counter and key, whatever the lengths.
func TestWideKeepsToItsBuffers(t *testing.T) {
	key := Key{1}
	own(t, &key)
	w := (*wideKey)(edge(t, len(wideKey{}))(len(wideKey{})))
	gcmInit(w, (*Key)(append(edge(t, KeySize)(KeySize)[:0], key[:]...)))
	src, dst, more := edge(t, 1<<10), edge(t, 1<<10), edge(t, 1<<10)
	counter, tag := (*[16]byte)(edge(t, 16)(16)), (*[16]byte)(edge(t, 16)(16))
	nonce, text := make([]byte, 12), bytes.Repeat([]byte("bounds"), 100)
	*counter = first(nonce)
	for n := range 513 {
		plain, additional := src(n), more(n%49)
		copy(plain, text)
		copy(additional, text)
		want := standard(t, &key).Seal(nil, nonce, plain, additional)
		sealed := dst(n)
		gcmSeal(w, sealed, plain, additional, counter, tag)
		if !bytes.Equal(append(sealed, tag[:]...), want) {
			t.Fatalf("%d bytes with %d additional differ from the standard library", n, len(additional))
		}
		gcmOpen(w, plain, sealed, additional, counter, tag)
		if !bytes.Equal(plain, text[:n]) || !bytes.Equal(tag[:], want[n:]) {
			t.Fatalf("%d bytes with %d additional do not open", n, len(additional))
		}
	}
}
