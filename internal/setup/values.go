package setup

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

// How the values of a configuration are read, each kind with its faults for people.

// beside makes a path of the file relative to the file's directory.
func beside(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (d *document) name(key, s string) {
	switch {
	case s == "":
		d.bad(key, "missing. Write a name of a-z, 0-9, dot, hyphen and underscore")
	case !directory.ValidName(s):
		d.bad(key, "%q is not a name. Write 1 to 64 of a-z, 0-9, dot, hyphen and underscore", s)
	}
}

func (d *document) address(key, s string) netip.AddrPort {
	if s == "" {
		d.bad(key, "missing. Write host:port, as in \"192.0.2.1:9001\"")
		return netip.AddrPort{}
	}
	a, why := parseAddress(s)
	if why != "" {
		d.bad(key, "%q is not an address: %s. Write host:port, as in \"192.0.2.1:9001\"", s, why)
	}
	return a
}

// parseAddress parses an IP address and a port, or says why it cannot.
func parseAddress(s string) (netip.AddrPort, string) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		return netip.AddrPort{}, "no port"
	}
	port, err := strconv.Atoi(s[colon+1:])
	if err != nil {
		return netip.AddrPort{}, "the port is not a number"
	}
	if port < 0 || port > 65535 {
		return netip.AddrPort{}, "port out of range"
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, "the host is not an IP address"
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), ""
}

func (d *document) url(key, s string) {
	rest, ok := strings.CutPrefix(s, "http://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "https://")
	}
	if !ok || rest == "" || strings.ContainsAny(rest, " \t\n") {
		d.bad(key, "%q is not a URL. Write http://host:port", s)
	}
}

// collector checks the URL of a collector of telemetry, which gets nothing in the clear
// from another machine.
func (d *document) collector(key, s string) {
	if err := CheckCollector(s); err != nil {
		d.bad(key, "%v", err)
	}
}

// CheckCollector says what is wrong with the URL of who takes telemetry.
func CheckCollector(s string) error {
	switch u, err := url.Parse(s); {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "":
		return fmt.Errorf("%q is not a URL of a collector. Write it as in \"https://collector:4318\"", s)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("%q would get telemetry in the clear. Write https://, or a loopback address", s)
	}
	return nil
}

// Through is how an HTTP client goes by the proxy at a URL; "" is by none, nil.
func Through(proxy string) (func(*http.Request) (*url.URL, error), error) {
	if proxy == "" {
		return nil, nil
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || !strings.HasPrefix(u.Scheme, "socks5") && u.Scheme != "http" {
		return nil, fmt.Errorf("%q is not a proxy: write it as in socks5://127.0.0.1:9150", proxy)
	}
	return http.ProxyURL(u), nil
}

func (d *document) duration(key, s string, least, most time.Duration) time.Duration {
	v, err := time.ParseDuration(s)
	if err != nil || v < least || v > most {
		d.bad(key, "%q is not a duration from %v to %v. Write it as in \"30s\" or \"1h\"", s, least, most)
		return 0
	}
	return v
}

func (d *document) level(key, s string) wire.Level {
	l, ok := wire.ParseLevel(s)
	if !ok {
		d.bad(key, "%q is not a level. Use fast, standard, high or extreme", s)
	}
	return l
}

// ports parses ranges in any order and joins those that touch.
func (d *document) ports(key string, list []string) []directory.PortRange {
	if len(list) == 0 {
		d.bad(key, `empty: an exit opens at least one port. Write ports = ["80", "443"], or remove the role exit`)
	}
	return d.portList(key, list)
}

// portList parses ports and ranges, and joins those that touch. It is never nil.
func (d *document) portList(key string, list []string) []directory.PortRange {
	var all []directory.PortRange
	for _, s := range list {
		first, last, ranged := strings.Cut(s, "-")
		if !ranged {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 16)
		hi, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || lo == 0 || hi < lo {
			d.bad(key, "%q is not a port or a range of ports. Write \"443\" or \"1024-65535\"", s)
			continue
		}
		all = append(all, directory.PortRange{First: uint16(lo), Last: uint16(hi)})
	}
	slices.SortFunc(all, func(a, b directory.PortRange) int { return int(a.First) - int(b.First) })
	out := []directory.PortRange{}
	for _, r := range all {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	if len(out) > directory.MaxPortRanges {
		d.bad(key, "%d separate ranges, at most %d are allowed. Join some", len(out), directory.MaxPortRanges)
	}
	return out
}
