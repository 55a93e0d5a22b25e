package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Role is who takes a key.
type Role uint8

// Roles, as bits.
const (
	Stream Role = 1 << iota
	Mix
	Control
)

// String writes roles as in "stream, mix".
func (r Role) String() string {
	var names []string
	for i, name := range []string{"stream", "mix", "control"} {
		if r>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Kind is the form of a value.
type Kind uint8

// Kinds.
const (
	Number Kind = iota
	Duration
	Word  // one of Key.Words
	Truth // true or false
	Ports // as in "80,443,1024-65535"
	URL   // http or https
)

// Key is one that may be changed while the network runs.
type Key struct {
	Name string
	Kind Kind
	// Least and Most bound a Number, or a Duration in nanoseconds.
	Least, Most int64
	Words       []string
	// Default is what nodes take whose own file says nothing, for people.
	Default string
	Roles   Role
	Help    string
}

// Wants says what values the key takes, as in "a number from 1 to 100000".
func (k *Key) Wants() string {
	switch k.Kind {
	case Number:
		return fmt.Sprintf("a number from %d to %d", k.Least, k.Most)
	case Duration:
		return fmt.Sprintf("a duration from %v to %v", time.Duration(k.Least), time.Duration(k.Most))
	case Word:
		return "one of " + strings.Join(k.Words, ", ")
	case Truth:
		return "true or false"
	case Ports:
		return `ports and ranges, at most 32, as in "80,443,1024-65535"`
	}
	return "an http or https URL without a user's name"
}

// Check says whether a value may be set; "" may always. The error names key and
// bound.
func (k *Key) Check(value string) error {
	if value == "" || k.takes(value) {
		return nil
	}
	return fmt.Errorf("%s: %.80q is not %s", k.Name, value, k.Wants())
}

func (k *Key) takes(value string) bool {
	switch k.Kind {
	case Number:
		n, err := strconv.ParseInt(value, 10, 64)
		return err == nil && n >= k.Least && n <= k.Most && strconv.FormatInt(n, 10) == value
	case Duration:
		d, err := time.ParseDuration(value)
		return err == nil && int64(d) >= k.Least && int64(d) <= k.Most
	case Word:
		return slices.Contains(k.Words, value)
	case Truth:
		return value == "true" || value == "false"
	case Ports:
		_, err := ParsePorts(value)
		return err == nil
	}
	rest, ok := strings.CutPrefix(value, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(value, "http://")
	}
	host, _, _ := strings.Cut(rest, "/")
	plain := func(r rune) bool { return r > ' ' && r < 0x7f && r != '#' && r != '"' && r != '\\' }
	return ok && host != "" && !strings.ContainsRune(rest, '@') && strings.IndexFunc(rest, func(r rune) bool { return !plain(r) }) < 0
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// portsMost is how many ranges a descriptor has.
const portsMost = 32

// ParsePorts reads ports and ranges between commas, growing and apart.
func ParsePorts(s string) (out []PortRange, err error) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 16)
		hi, err2 := strconv.ParseUint(last, 10, 16)
		n := len(out)
		if err1 != nil || err2 != nil || lo == 0 || hi < lo || n == portsMost || n > 0 && lo <= uint64(out[n-1].Last)+1 {
			return nil, fmt.Errorf("%q is no port or range after those before it", part)
		}
		out = append(out, PortRange{uint16(lo), uint16(hi)})
	}
	return out, nil
}

// Schema is the keys that there are, and who takes them.
type Schema struct{ keys map[string]*Key }

// NewSchema returns the schema of some keys.
func NewSchema(keys ...Key) *Schema {
	s := &Schema{keys: map[string]*Key{}}
	for i := range keys {
		s.keys[keys[i].Name] = &keys[i]
	}
	return s
}

// Keys returns the keys by name.
func (s *Schema) Keys() (out []*Key) {
	for _, name := range slices.Sorted(maps.Keys(s.keys)) {
		out = append(out, s.keys[name])
	}
	return out
}

// Key returns the key of a name, nil if there is none.
func (s *Schema) Key(name string) *Key { return s.keys[name] }

// Accept says whether a change may be had: everything that is wrong with it, by
// key.
func (s *Schema) Accept(c *Change) error {
	if err := c.Validate(); err != nil {
		return err
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		k := s.keys[name]
		if k == nil {
			faults = append(faults, fmt.Errorf("%s: there is no such key; nyx config get lists them", name))
			continue
		}
		if err := k.Check(c.Set[name]); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}
