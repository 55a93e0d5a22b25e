package directory

import (
	"fmt"
	"slices"

	"github.com/nyxnet/nyx/internal/seal"
)

// CarrierKind is a way, beside plain UDP datagrams, to reach an entry.
type CarrierKind uint8

// Kinds of carriers (docs/protocol.md, section 15). Zero is none.
const (
	CarrierQUIC      CarrierKind = 1 // HTTP/3 datagrams on a UDP port
	CarrierWebSocket CarrierKind = 2 // binary messages over TLS on a TCP port
)

var carrierNames = [...]string{1: "quic", 2: "websocket"}

// String returns the kind as written in configuration.
func (k CarrierKind) String() string {
	if k.valid() {
		return carrierNames[k]
	}
	return "unknown"
}

// ParseCarrier returns the kind of a name.
func ParseCarrier(name string) (CarrierKind, bool) {
	i := slices.Index(carrierNames[1:], name)
	return CarrierKind(i + 1), i >= 0
}

func (k CarrierKind) valid() bool { return k == CarrierQUIC || k == CarrierWebSocket }

// Carrier says where an entry also takes links, and how to know it there. It
// stands at the node's first address: one on another network would be a way
// around the rule that the nodes of a path share none.
type Carrier struct {
	Kind CarrierKind
	Port uint16
	// Name is the server name that a client asks for, which everyone on the
	// wire reads; empty: none, as in a visit to an address.
	Name string
	// Pin is the hash of the server certificate's public key.
	Pin [seal.HashSize]byte
}

// checkCarriers is what must hold of a node's carriers: by kind, each kind
// once, on entries only.
func checkCarriers(list []Carrier, entry bool) error {
	if len(list) > 0 && !entry {
		return fmt.Errorf("carriers on a node that is no entry")
	}
	for i, c := range list {
		switch {
		case !c.Kind.valid():
			return fmt.Errorf("carrier of kind %d", c.Kind)
		case i > 0 && c.Kind <= list[i-1].Kind:
			return fmt.Errorf("carrier %v out of order", c.Kind)
		case c.Port == 0:
			return fmt.Errorf("carrier %v without a port", c.Kind)
		case c.Name != "" && !validName(c.Name):
			return fmt.Errorf("carrier %v: server name %q: %s", c.Kind, c.Name, nameRule)
		}
	}
	return nil
}

// carrierWire is a carrier in a descriptor and an entry.
type carrierWire struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Port uint16
	Name string
	Pin  []byte
}

func (w *carrierWire) carrier() (Carrier, error) {
	if len(w.Pin) != seal.HashSize {
		return Carrier{}, fmt.Errorf("carrier with a pin of %d bytes, not %d", len(w.Pin), seal.HashSize)
	}
	return Carrier{Kind: CarrierKind(w.Kind), Port: w.Port, Name: w.Name, Pin: [seal.HashSize]byte(w.Pin)}, nil
}
