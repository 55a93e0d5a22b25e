// Package secret is how a network's secrets are named, versioned and read: the
// references of a configuration, the Store behind them, and the keys of a Store
// that wrap other keys. A name says whose a secret is and what for; nothing of a
// user has a name here.
package secret

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Limits of every Store.
const (
	// NameMax bounds a name, ValueMax a value: a certificate's key is the largest.
	NameMax  = 128
	ValueMax = 64 << 10
	// VersionMax is where versions end.
	VersionMax = math.MaxInt64
)

var (
	// ErrNone is a secret or a version that is not there, or is destroyed.
	ErrNone = errors.New("no such secret")
	// ErrChanged is a Put over another version than the caller last saw. Nothing
	// was changed.
	ErrChanged = errors.New("the secret was changed meanwhile")
	// ErrRefused is what errors of a store are that gives a secret to nobody, or not to
	// who asks: errors.Is tells. A store that is away refuses nothing.
	ErrRefused = errors.New("the store refuses the secret")
)

// Secret is one version of a secret.
type Secret struct {
	// Value is the reader's own, to be cleared after use.
	Value []byte
	// Version counts from 1 and grows with every Put.
	Version uint64
	// Placed is when this version was put.
	Placed time.Time
}

// Info is what List tells of a secret: the present version.
type Info struct {
	Name    string    `json:"name"`
	Version uint64    `json:"version"`
	Placed  time.Time `json:"placed"`
}

// Store keeps secrets by name and version. Its methods are safe for concurrent
// use, by several processes too. A Put that returned without an error survives the
// end of the process; one that failed otherwise than by ErrChanged may have come
// about or not. Errors name secrets and never hold a value.
type Store interface {
	// Get returns a version of a secret, the present one for 0.
	Get(ctx context.Context, name string, version uint64) (Secret, error)
	// Put makes a value the present version of a secret of which the present
	// version is was, 0 for one that is not there. It keeps nothing of value.
	Put(ctx context.Context, name string, value []byte, was uint64) (version uint64, err error)
	// Destroy destroys the versions before one, but never the present one.
	Destroy(ctx context.Context, name string, before uint64) error
	// Delete destroys a secret with all versions. One that is not there is none.
	Delete(ctx context.Context, name string) error
	// List returns the secrets whose names begin with prefix, by name.
	List(ctx context.Context, prefix string) ([]Info, error)
	Close() error
}

// CheckName says what is wrong with a name: parts of a-z, 0-9, dot, hyphen and
// underscore between slashes, none of which begins with a dot.
func CheckName(name string) error {
	if len(name) > NameMax {
		return fmt.Errorf("a secret's name has at most %d bytes, this one has %d", NameMax, len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return fmt.Errorf("%q is not a secret's name; write parts of a-z, 0-9, dot, hyphen and underscore with slashes between, as in stream-1/fleet", name)
		}
	}
	return nil
}

// Check says what is wrong with what is to be Put.
func Check(name string, value []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(value) == 0 || len(value) > ValueMax {
		return fmt.Errorf("secret %s: a value has 1 to %d bytes, this one has %d", name, ValueMax, len(value))
	}
	return nil
}

// Scheme begins a reference.
const Scheme = "secret://"

// Reference parses secret://NAME. ok says whether s is a reference at all; what is
// wrong with its name is the error.
func Reference(s string) (name string, ok bool, err error) {
	name, ok = strings.CutPrefix(s, Scheme)
	if !ok {
		return "", false, nil
	}
	return name, true, CheckName(name)
}

// Replace makes a value the next version of a secret, whatever the present one is,
// and returns its version.
func Replace(ctx context.Context, s Store, name string, value []byte) (uint64, error) {
	return Change(ctx, s, name, func(Secret) ([]byte, error) { return value, nil })
}

// changeTries is how often Change is overtaken before it gives up.
const changeTries = 16

// Change makes what next says of the present version the next one; next gets the
// zero Secret if there is none, is called again when another change came between,
// and ends it by an error.
func Change(ctx context.Context, s Store, name string, next func(present Secret) ([]byte, error)) (version uint64, err error) {
	for range changeTries {
		var present Secret
		if present, err = s.Get(ctx, name, 0); err != nil && !errors.Is(err, ErrNone) {
			return 0, err
		}
		var value []byte
		value, err = next(present)
		clear(present.Value)
		if err != nil {
			return 0, err
		}
		if version, err = s.Put(ctx, name, value, present.Version); !errors.Is(err, ErrChanged) {
			return version, err
		}
	}
	return 0, err
}
