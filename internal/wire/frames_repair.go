package wire

import "encoding/binary"

// Error correction across session packets (docs/protocol.md, section 12.12).
//
//	REPAIR   [0x0e][mask 8][symbol 1045]
//	REBUILT  [0x0f][greatest packet number, varint][mask 8]
//
// A REPAIR fills its packet. Bit i of its mask, from the least significant,
// names the packet whose number is 1 + i below that of the REPAIR's own. Bit i
// of a REBUILT's names the packet i below the greatest. A mask without bits, or
// with bits for numbers below 0, is malformed.

// SymbolSize is the part of a session payload that a REPAIR can rebuild: what
// is left of a payload beside the frame's header. A packet is protected only if
// its frames fit into it.
const SymbolSize = SessionPayloadSize - repairHeader // 1045

const repairHeader = 1 + 8

// RepairFrame is one repair symbol. Symbol aliases the packet after parsing.
type RepairFrame struct {
	Mask   uint64
	Symbol []byte
}

// AppendRepairHeader appends a REPAIR frame without its symbol, of SymbolSize
// bytes, which follows.
func AppendRepairHeader(b []byte, mask uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(SFrameRepair)), mask)
}

// ParseRepair parses a REPAIR frame, which is the payload of packet number own.
func ParseRepair(own uint64, b []byte) (f RepairFrame, err error) {
	if len(b) != SessionPayloadSize || SessionFrameType(b[0]) != SFrameRepair {
		return f, ErrFrame
	}
	f.Mask, f.Symbol = binary.BigEndian.Uint64(b[1:]), b[repairHeader:]
	if f.Mask == 0 || own < 64 && f.Mask>>own != 0 {
		return RepairFrame{}, ErrFrame
	}
	return f, nil
}

// RebuiltFrame names packets whose content was rebuilt.
type RebuiltFrame struct {
	Last, Mask uint64
}

// RebuiltLen is the greatest size of a REBUILT frame.
const RebuiltLen = 1 + 8 + 8

// Append appends the frame.
func (f RebuiltFrame) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(AppendVarint(append(b, byte(SFrameRebuilt)), f.Last), f.Mask)
}

// ParseRebuilt parses a frame whose type byte is SFrameRebuilt.
func ParseRebuilt(b []byte) (f RebuiltFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Last = r.varint()
	if mask := r.bytes(8); mask != nil {
		f.Mask = binary.BigEndian.Uint64(mask)
	}
	if f.Mask == 0 || f.Last < 63 && f.Mask>>(f.Last+1) != 0 {
		r.fail()
	}
	n, err = r.result()
	return f, n, err
}
