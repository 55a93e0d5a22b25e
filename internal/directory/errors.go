package directory

import "errors"

// Errors. Each is wrapped with the figures that a person needs; test with
// errors.Is.
var (
	// ErrMalformed means bytes that are not the one encoding of a valid value.
	ErrMalformed = errors.New("directory: malformed")
	// ErrSize means a message above its limit.
	ErrSize = errors.New("directory: too large")
	// ErrSignature means a descriptor that its node did not sign.
	ErrSignature = errors.New("directory: signature does not verify")
	// ErrThreshold means fewer valid signatures of trusted authorities than
	// the threshold.
	ErrThreshold = errors.New("directory: not enough valid signatures")
	// ErrNetwork means a document or descriptor of another network.
	ErrNetwork = errors.New("directory: other network")
	// ErrExpired means a document whose validity has ended, grace included.
	ErrExpired = errors.New("directory: expired")
	// ErrNotYetValid means a document whose validity has not begun, grace
	// included.
	ErrNotYetValid = errors.New("directory: not yet valid")
	// ErrRollback means a document older than one already seen.
	ErrRollback = errors.New("directory: older than one already seen")
	// ErrConflict means two different documents with one number: the
	// authorities have signed twice, or are being impersonated.
	ErrConflict = errors.New("directory: two different documents with one number")
	// ErrStale means a descriptor older than the one held, or past its age.
	ErrStale = errors.New("directory: stale descriptor")
	// ErrRefused means a descriptor that an authority does not admit.
	ErrRefused = errors.New("directory: descriptor not admitted")
	// ErrFull means an authority that holds as many descriptors as it may.
	ErrFull = errors.New("directory: full")
	// ErrProof means a Merkle proof that does not lead to the root.
	ErrProof = errors.New("directory: proof does not lead to the root")
	// ErrNoPath means that no path satisfies a request.
	ErrNoPath = errors.New("directory: no path")
	// ErrTrust means a set of trusted authorities that makes no sense.
	ErrTrust = errors.New("directory: invalid set of authorities")
)
