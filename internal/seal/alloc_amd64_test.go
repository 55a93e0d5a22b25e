//go:build !purego

package seal

// chachaAllocations is what ChaCha20Poly1305 allocates for a message.
const chachaAllocations = 0
