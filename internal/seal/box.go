package seal

// Sizes of a box, in bytes.
const (
	BoxSaltSize = 16
	BoxOverhead = BoxSaltSize + Overhead
)

// SealBox appends to dst the box of a plaintext: [salt 16][sealed][tag 16], sealed
// with AES-256-GCM under a key that is derived for this box alone. So one key seals
// any number of boxes, whoever seals them, if each has a salt of fresh randomness.
// additional is authenticated, not sealed. plaintext and dst do not overlap.
func SealBox(key *Key, salt *[BoxSaltSize]byte, dst, plaintext, additional []byte) []byte {
	own := boxKey(key, salt[:])
	defer own.Clear()
	dst = append(dst, salt[:]...)
	return new(Once).Seal(AES256GCM, &own, dst, plaintext, additional, 0)
}

// OpenBox appends the plaintext of a box to dst and reports whether it
// authenticates.
func OpenBox(key *Key, dst, box, additional []byte) ([]byte, bool) {
	if len(box) < BoxOverhead {
		return dst, false
	}
	own := boxKey(key, box[:BoxSaltSize])
	defer own.Clear()
	return new(Once).Open(AES256GCM, &own, dst, box[BoxSaltSize:], additional, 0)
}

func boxKey(key *Key, salt []byte) Key { return Derive(key, "box "+string(salt)) }
