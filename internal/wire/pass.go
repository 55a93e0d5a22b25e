package wire

import "encoding/binary"

// Passes are unlinkable tokens: Privacy Pass (RFC 9577, RFC 9578) of type 2, with
// their formats as they stand there (docs/protocol.md, section 9):
//
//	Pass            [type 2 = 2][nonce 32][challenge 32][key 32][authenticator 256]
//	PassRequest     [type 2 = 2][key 1][blinded 256]
//	TokenChallenge  [type 2 = 2][issuer: length 2, bytes][context: length 1 = 32, 32][origin: length 2 = 0]
//
// Requests are posted in a batch, one after the other, and answered by as many blind
// signatures of 256 bytes in their order. What an issuer says of its keys is ours:
//
//	PassKeys        [version 1 = 1][network: length 1, bytes][life s 4][issued 8][count 1], each [begins 8][modulus 256]

// Sizes of passes, in bytes, and how many one batch has.
const (
	PassSize          = passInput + PassSignatureSize
	PassRequestSize   = 2 + 1 + PassSignatureSize
	PassSignatureSize = 256
	PassModulusSize   = 256
	// PassBatchMax bounds a batch: a quarter of a second of the issuer's processor.
	PassBatchMax = 64
	// PassKeysMax is how many keys an issuer tells of: those of the last period, of
	// this one and of the next.
	PassKeysMax = 3

	passType      = 2
	passInput     = 2 + 32 + 32 + 32
	passKeysFirst = 1
)

// Pass is an unlinkable token. What is signed is all but the Authenticator.
type Pass struct {
	Nonce         [32]byte // drawn by the client
	Challenge     [32]byte // digest of the challenge that it answers
	Key           [32]byte // id of the issuer's key
	Authenticator [PassSignatureSize]byte
}

// AppendInput appends what the issuer has signed.
func (p *Pass) AppendInput(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, passType)
	return append(append(append(b, p.Nonce[:]...), p.Challenge[:]...), p.Key[:]...)
}

// Append appends the pass.
func (p *Pass) Append(b []byte) []byte { return append(p.AppendInput(b), p.Authenticator[:]...) }

// ParsePass parses a pass, of which b holds nothing else.
func ParsePass(b []byte) (p Pass, ok bool) {
	if len(b) != PassSize || binary.BigEndian.Uint16(b) != passType {
		return Pass{}, false
	}
	b = b[2:]
	for _, to := range []*[32]byte{&p.Nonce, &p.Challenge, &p.Key} {
		b = b[copy(to[:], b):]
	}
	copy(p.Authenticator[:], b)
	return p, true
}

// PassRequest asks for one blind signature.
type PassRequest struct {
	Key     uint8 // the last byte of the key's id
	Blinded [PassSignatureSize]byte
}

// Append appends the request.
func (r *PassRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, passType)
	return append(append(b, r.Key), r.Blinded[:]...)
}

// ParsePassRequests parses a batch: 1 to PassBatchMax requests and nothing else.
func ParsePassRequests(b []byte) (out []PassRequest, ok bool) {
	if len(b) == 0 || len(b)%PassRequestSize != 0 || len(b) > PassBatchMax*PassRequestSize {
		return nil, false
	}
	for ; len(b) > 0; b = b[PassRequestSize:] {
		if binary.BigEndian.Uint16(b) != passType {
			return nil, false
		}
		r := PassRequest{Key: b[2]}
		copy(r.Blinded[:], b[3:])
		out = append(out, r)
	}
	return out, true
}

// AppendPassChallenge appends the TokenChallenge of an issuer, whose name has 1 to
// 65,535 bytes, and a redemption context.
func AppendPassChallenge(b []byte, issuer string, context *[32]byte) []byte {
	b = binary.BigEndian.AppendUint16(b, passType)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(issuer))), issuer...)
	b = append(append(b, byte(len(context))), context[:]...)
	return binary.BigEndian.AppendUint16(b, 0)
}

// PassKeys is what an issuer says of its keys.
type PassKeys struct {
	Network string // 1 to 64 bytes
	Life    uint32 // of a key as one that signs, in seconds; not 0
	Issued  int64  // when this was said, in seconds since 1970
	Keys    []PassKey
}

// PassKey is one key: from Begins on it signs, for as long as Life says.
type PassKey struct {
	Begins  int64
	Modulus [PassModulusSize]byte
}

const passNetworkMax = 64

// Append appends what is said, of 1 to PassKeysMax keys.
func (k *PassKeys) Append(b []byte) []byte {
	b = append(b, passKeysFirst, byte(len(k.Network)))
	b = append(b, k.Network...)
	b = binary.BigEndian.AppendUint32(b, k.Life)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Issued))
	b = append(b, byte(len(k.Keys)))
	for i := range k.Keys {
		b = binary.BigEndian.AppendUint64(b, uint64(k.Keys[i].Begins))
		b = append(b, k.Keys[i].Modulus[:]...)
	}
	return b
}

// ParsePassKeys parses what an issuer says, of which b holds nothing else. Keys stand
// in the order of their beginnings, a life apart or more.
func ParsePassKeys(b []byte) (k PassKeys, ok bool) {
	if len(b) < 2 || b[0] != passKeysFirst || b[1] == 0 || b[1] > passNetworkMax || len(b) < 2+int(b[1])+4+8+1 {
		return PassKeys{}, false
	}
	name := int(b[1])
	k.Network = string(b[2 : 2+name])
	b = b[2+name:]
	k.Life, k.Issued = binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:]))
	n := int(b[12])
	b = b[13:]
	const size = 8 + PassModulusSize
	if k.Life == 0 || k.Issued < 0 || n == 0 || n > PassKeysMax || len(b) != n*size {
		return PassKeys{}, false
	}
	for ; len(b) > 0; b = b[size:] {
		key := PassKey{Begins: int64(binary.BigEndian.Uint64(b))}
		copy(key.Modulus[:], b[8:])
		if last := len(k.Keys) - 1; key.Begins < 0 || last >= 0 && key.Begins-k.Keys[last].Begins < int64(k.Life) {
			return PassKeys{}, false
		}
		k.Keys = append(k.Keys, key)
	}
	return k, true
}
