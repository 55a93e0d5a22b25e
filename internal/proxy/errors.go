package proxy

import (
	"errors"
	"net"
)

// Errors by which a Dialer says why it could not carry a request. They are all
// that a client learns, and no more than a direct connection would tell it.
var (
	// ErrNotAllowed: the exit's policy, or the client's, forbids the target.
	ErrNotAllowed = errors.New("target not allowed by policy")
	// ErrTooManyKeys: the client has as many isolation keys in use as it may.
	ErrTooManyKeys = errors.New("too many isolation keys are in use")
	// ErrNetworkDown: Nyx cannot carry traffic now. Nothing was sent anywhere.
	ErrNetworkDown = errors.New("nyx network is down")
	// ErrHostUnreachable: the name does not resolve, or no path leads there.
	ErrHostUnreachable = errors.New("target host unreachable")
	// ErrRefused: the target refused the connection.
	ErrRefused = errors.New("target refused the connection")
	// ErrTTL: no answer came in time.
	ErrTTL = errors.New("target did not answer in time")
	// ErrNotSupported: the request is well formed, and not offered.
	ErrNotSupported = errors.New("not supported")
)

// Errors of requests.
var (
	errMalformed   = errors.New("malformed request")
	errTooLarge    = errors.New("request header too large")
	errBadHost     = errors.New("not a host name or address")
	errAddressType = errors.New("unknown address type")
	errNotProxying = errors.New("not a proxy request")
)

// isTimeout reports whether an error is a deadline, of a socket or a context.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, ErrTTL) || errors.As(err, &ne) && ne.Timeout()
}

// answer is what a client is told about an outcome, in both protocols.
type answer struct {
	socks  byte   // reply field of RFC 1928, section 6
	status string // HTTP status line after the version
	text   string // HTTP body: what was wrong and what to do
}

var answers = []struct {
	err error
	answer
}{
	{ErrNotAllowed, answer{2, "403 Forbidden", "The exit does not allow this target. Ask for another port or host."}},
	{ErrTooManyKeys, answer{2, "429 Too Many Requests", "Too many isolation keys (user names and passwords) are in use. Use one of them, or try again when some have been idle for a while."}},
	{ErrNetworkDown, answer{3, "503 Service Unavailable", "The Nyx network cannot carry traffic now; nothing was sent. Look at nyx status."}},
	{ErrHostUnreachable, answer{4, "502 Bad Gateway", "The target's name does not resolve, or the host cannot be reached."}},
	{ErrRefused, answer{5, "502 Bad Gateway", "The target refused the connection. Check the port."}},
	{ErrNotSupported, answer{7, "501 Not Implemented", "This proxy carries CONNECT and http:// requests. Use CONNECT for anything else."}},
	{errAddressType, answer{8, "400 Bad Request", "Unknown address type."}},
	{errBadHost, answer{4, "400 Bad Request", "The target is not a host name or an address. Write host:port."}},
	{errTooLarge, answer{1, "431 Request Header Fields Too Large", "The request header is too large. A line may have 8 KiB, all together 16 KiB."}},
	{errNotProxying, answer{1, "400 Bad Request", "This is a proxy, not a web server. Set it as SOCKS5 or HTTP proxy of your program."}},
	{errMalformed, answer{1, "400 Bad Request", "The request is malformed."}},
}

// answerTo maps an error to what the client is told; nil is success.
func answerTo(err error) answer {
	if err == nil {
		return answer{0, "200 Connection established", ""}
	}
	for i := range answers {
		if errors.Is(err, answers[i].err) {
			return answers[i].answer
		}
	}
	if isTimeout(err) {
		return answer{6, "504 Gateway Timeout", "The target did not answer in time."}
	}
	return answer{1, "502 Bad Gateway", "The connection could not be made."}
}
