package pass

import (
	"fmt"
	"slices"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// keysContext is that of the issuer's signature on its keys.
const keysContext = "nyx pass keys 1"

// KeysMax bounds a signed list, in bytes.
const KeysMax = 4<<10 + seal.SignatureSize

// Keys are the keys of an issuer, by period: each signs for one life, and passes under
// it are good for another one.
type Keys struct {
	said wire.PassKeys
	keys []*seal.PassPublic // in the order of said
}

// SignKeys is the signed list of an issuer's keys.
func SignKeys(signer *seal.Signer, k *wire.PassKeys) ([]byte, error) {
	b := k.Append(nil)
	signature, err := signer.Sign(keysContext, b)
	if err != nil {
		return nil, fmt.Errorf("pass: %w", err)
	}
	return append(b, signature...), nil
}

// ParseKeys verifies a list of a network's issuer. Nothing of b is kept.
func ParseKeys(b []byte, network string, issuer []byte) (*Keys, error) {
	if len(b) <= seal.SignatureSize || len(b) > KeysMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrKeys, len(b))
	}
	body, signature := b[:len(b)-seal.SignatureSize], b[len(b)-seal.SignatureSize:]
	if err := seal.Verify(issuer, keysContext, body, signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	said, ok := wire.ParsePassKeys(body)
	if !ok || said.Network != network {
		return nil, fmt.Errorf("%w: malformed, or of the network %q", ErrKeys, said.Network)
	}
	k := &Keys{said: said}
	for i := range said.Keys {
		key, err := seal.ParsePassPublic(&said.Keys[i].Modulus)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeys, err)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// Key is a key and its times, in seconds since 1970: it signs from Begins until Ends,
// and passes under it are good until Until.
type Key struct {
	Public              *seal.PassPublic
	Begins, Ends, Until int64
}

// All are the keys, the oldest first.
func (k *Keys) All() []Key {
	out := make([]Key, len(k.keys))
	for i, p := range k.keys {
		b, life := k.said.Keys[i].Begins, int64(k.said.Life)
		out[i] = Key{p, b, b + life, b + 2*life}
	}
	return out
}

// Issued is when the list was made.
func (k *Keys) Issued() int64 { return k.said.Issued }

// Signing is the key that signs at a time.
func (k *Keys) Signing(unix int64) (Key, bool) {
	all := k.All()
	i := slices.IndexFunc(all, func(key Key) bool { return key.Begins <= unix && unix < key.Ends })
	if i < 0 {
		return Key{}, false
	}
	return all[i], true
}

// Follows checks that a list agrees with an earlier one, nil for none: no period has
// another key than it had. Whoever asks an issuer holds it to this.
func (k *Keys) Follows(earlier *Keys) error {
	if earlier == nil {
		return nil
	}
	for i, key := range k.said.Keys {
		for j, was := range earlier.said.Keys {
			end, ended := key.Begins+int64(k.said.Life), was.Begins+int64(earlier.said.Life)
			if k.keys[i].ID() != earlier.keys[j].ID() && key.Begins < ended && was.Begins < end {
				return fmt.Errorf("%w: from %d on", ErrForked, max(key.Begins, was.Begins))
			}
		}
	}
	return nil
}
