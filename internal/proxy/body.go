package proxy

import (
	"strconv"
	"strings"
)

// body finds where the message of a plain HTTP request ends, as its bytes pass
// by (RFC 9112, sections 6 and 7). It changes nothing.
type body struct {
	state bodyState
	left  uint64 // bytes left of the content, or of the present chunk
	line  int    // length of the present chunk or trailer line so far
	total int    // length of all trailer lines so far
	seen  bool   // the present chunk size has a digit
}

type bodyState uint8

const (
	bodyEnd      bodyState = iota // nothing more belongs to the message
	bodyContent                   // left bytes of known length
	chunkSize                     // hexadecimal digits
	chunkExt                      // up to the CR of the size line
	chunkSizeLF                   // its LF
	chunkData                     // left bytes
	chunkDataCR                   // CR after the data
	chunkDataLF                   // LF after the data
	trailerStart                  // first byte of a trailer line
	trailerLine                   // up to its LF
	trailerEndLF                  // LF of the empty line
)

// Limits: a chunk of more than 2^56 bytes is nonsense, and the longest line is
// that of a header.
const (
	chunkMax     = 1 << 56
	chunkLineMax = headerBuffer
)

// bodyOf reads the framing of a request. Two framings in one request, which
// two servers may read in two ways, are refused.
func bodyOf(fields []field) (*body, error) {
	length, chunked := "", false
	for _, f := range fields {
		switch {
		case strings.EqualFold(f.name, "Content-Length"):
			if length != "" && length != f.value {
				return nil, errMalformed
			}
			length = f.value
			if length == "" {
				return nil, errMalformed
			}
		case strings.EqualFold(f.name, "Transfer-Encoding"):
			if chunked || !strings.EqualFold(f.value, "chunked") {
				return nil, errMalformed
			}
			chunked = true
		}
	}
	switch {
	case chunked && length != "":
		return nil, errMalformed
	case chunked:
		return &body{state: chunkSize}, nil
	case length == "":
		return &body{}, nil
	}
	n, err := strconv.ParseUint(length, 10, 63)
	if err != nil || length[0] == '+' {
		return nil, errMalformed
	}
	if n == 0 {
		return &body{}, nil
	}
	return &body{state: bodyContent, left: n}, nil
}

// take returns how many bytes at the front of b belong to the message. An
// error means that the framing is broken; nothing of b should be passed on.
func (m *body) take(b []byte) (int, error) {
	i := 0
	for i < len(b) && m.state != bodyEnd {
		if m.state == bodyContent || m.state == chunkData {
			n := min(m.left, uint64(len(b)-i))
			i += int(n)
			if m.left -= n; m.left == 0 {
				m.contentDone()
			}
			continue
		}
		if !m.step(b[i]) {
			return 0, errMalformed
		}
		i++
	}
	return i, nil
}

func (m *body) contentDone() {
	if m.state == bodyContent {
		m.state = bodyEnd
		return
	}
	m.state = chunkDataCR
}

// step takes one byte of framing, and reports whether it may stand there.
func (m *body) step(c byte) bool {
	if m.line++; m.line > chunkLineMax {
		return false
	}
	switch m.state {
	case chunkSize:
		if d, ok := hexDigit(c); ok {
			m.left, m.seen = m.left<<4|d, true
			return m.left < chunkMax
		}
		m.state = chunkExt
		return m.seen && (c == ';' || c == ' ' || c == '\t') || m.seen && m.endLine(c, chunkSizeLF)
	case chunkExt:
		return m.endLine(c, chunkSizeLF) || c >= ' ' || c == '\t'
	case chunkSizeLF:
		m.line, m.seen, m.state = 0, false, chunkData
		if m.left == 0 {
			m.state = trailerStart
		}
		return c == '\n'
	case chunkDataCR:
		return m.endLine(c, chunkDataLF)
	case chunkDataLF:
		m.line, m.state = 0, chunkSize
		return c == '\n'
	case trailerStart:
		if m.endLine(c, trailerEndLF) {
			return true
		}
		m.state = trailerLine
		return c > ' '
	case trailerLine:
		if c == '\n' {
			m.total += m.line
			m.line, m.state = 0, trailerStart
		}
		return m.total <= headerMax
	case trailerEndLF:
		m.state = bodyEnd
		return c == '\n'
	}
	return false
}

// endLine moves to next if c is a CR.
func (m *body) endLine(c byte, next bodyState) bool {
	if c == '\r' {
		m.state = next
		return true
	}
	return false
}

func hexDigit(c byte) (uint64, bool) {
	switch {
	case '0' <= c && c <= '9':
		return uint64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return uint64(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return uint64(c-'A') + 10, true
	}
	return 0, false
}
