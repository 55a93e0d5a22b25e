//go:build !amd64 || purego

package seal

// chachaAllocations is what ChaCha20Poly1305 allocates for a message: its
// one-time key, in the code that stands in for assembly.
const chachaAllocations = 1
