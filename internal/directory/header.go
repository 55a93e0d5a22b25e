package directory

// SignedHeader is what the authorities have signed, apart from each one's time:
// the document's line in a transparency log. The caller must not change it.
func (d *Document) SignedHeader() []byte { return d.header }

// ParseHeader reads what SignedHeader returned, and the mark of its document. It
// says nothing about signatures. Nothing of b is kept.
func ParseHeader(b []byte) (Header, Mark, error) {
	h, err := parseHeader(b)
	if err != nil {
		return Header{}, Mark{}, err
	}
	d := Document{Header: h, header: b}
	return h, d.Mark(), nil
}

// VerifyProposal checks the signatures of what Proposal returned as Verify does
// those of a document, but not the time: it may be long past.
func VerifyProposal(b []byte, trust *Trust) (*Document, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	d, err := ParseProposal(b)
	if err != nil {
		return nil, err
	}
	return d, d.verifyOrigin(trust)
}

// VerifyPast is Verify without regard to time: for who looks back.
func VerifyPast(b []byte, trust *Trust) (*Document, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	d, err := parseEnvelope(b)
	if err == nil {
		err = d.verifyOrigin(trust)
	}
	if err == nil {
		err = d.parseNodes()
	}
	return d, err
}
