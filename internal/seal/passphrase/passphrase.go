// Package passphrase makes keys of what people remember. It is apart from package
// seal so that only programs with a key store link it.
package passphrase

import "golang.org/x/crypto/argon2"

// SaltSize is the size of a salt in bytes.
const SaltSize = 16

// Cost is what each guess of a passphrase costs: parameters of argon2id (RFC
// 9106).
type Cost struct {
	Passes    uint32
	MemoryKiB uint32
	Lanes     uint8
}

// Recommended is the second recommended option of RFC 9106, section 4: 64 MiB.
func Recommended() Cost { return Cost{Passes: 3, MemoryKiB: 64 << 10, Lanes: 4} }

// Valid reports whether a cost that was read from a file can be paid.
func (c Cost) Valid() bool {
	return c.Passes >= 1 && c.Passes <= 64 && c.Lanes >= 1 && c.Lanes <= 64 && c.MemoryKiB >= 8*uint32(c.Lanes) && c.MemoryKiB <= 4<<20
}

// Key is the key of a passphrase under a salt, at a valid cost.
func Key(passphrase []byte, salt *[SaltSize]byte, c Cost) (key [32]byte) {
	b := argon2.IDKey(passphrase, salt[:], c.Passes, c.MemoryKiB, c.Lanes, uint32(len(key)))
	copy(key[:], b)
	clear(b)
	return key
}
