package setup

import (
	"cmp"
	"net/netip"
	"net/url"
	"strings"
)

// ConsoleConfig is the console that a control process serves.
type ConsoleConfig struct {
	// Listen is its address; the zero value: it is not served.
	Listen netip.AddrPort
	// URL is where browsers reach it; "" is the address itself, on this machine alone.
	URL string
	// Certificate and Key are PEM files for TLS; "" for none on this machine, and the
	// certificate of the process elsewhere.
	Certificate, Key string
	// Issuer is the OpenID Connect issuer at which people sign in, "" for none; Client is
	// the console's name there, Secret the file of what it shows, "" for a public client.
	Issuer, Client, Secret string
}

// TLS reports whether its server speaks it.
func (c *ConsoleConfig) TLS() bool { return !c.Listen.Addr().IsLoopback() || c.Certificate != "" }

// defaultConsoleClient is what a console is called at its issuer.
const defaultConsoleClient = "nyx-console"

// consoleFile is the table as written.
type consoleFile struct {
	Listen      string `toml:"listen"`
	URL         string `toml:"url"`
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	Issuer      string `toml:"issuer"`
	Client      string `toml:"client"`
	Secret      string `toml:"secret"`
}

// console reads the table of a control process.
func (d *document) console(c *ConsoleConfig, f *consoleFile) {
	if f.Listen == "" {
		if d.has("console") {
			d.bad("console.listen", "missing. Write its address, as in listen = \"127.0.0.1:9600\", or remove the table")
		}
		return
	}
	c.Listen = d.address("console.listen", f.Listen)
	if (f.Certificate == "") != (f.Key == "") {
		d.bad("console.certificate", "certificate and key go together. Write both, or neither")
	}
	c.Certificate, c.Key = d.file(f.Certificate), d.file(f.Key)
	if c.Certificate != "" && c.Key != "" {
		d.pem("console.certificate", c.Certificate, "CERTIFICATE", "of the console's certificate")
	}
	c.Issuer, c.Client, c.Secret = f.Issuer, cmp.Or(f.Client, defaultConsoleClient), d.file(f.Secret)
	if c.Issuer == "" && (f.Client != "" || f.Secret != "") {
		d.bad("console.issuer", "client and secret are for an issuer. Write its URL, or remove them")
	} else if c.Issuer != "" {
		d.web("console.issuer", c.Issuer)
	}
	if c.URL = strings.TrimRight(f.URL, "/"); c.URL != "" {
		d.web("console.url", c.URL)
	}
	if !c.Listen.IsValid() || c.Listen.Addr().IsLoopback() {
		return
	}
	if c.URL == "" {
		d.bad("console.url", "missing, and console.listen is not an address of this machine alone. Write where browsers reach it, as in url = \"https://console.example.org:9600\"")
	}
	if c.Issuer == "" {
		d.bad("console.issuer", "missing, and console.listen is not an address of this machine alone: links are for its owner. Write the URL of an OpenID Connect issuer, or listen on 127.0.0.1")
	}
}

// web checks that a text is the URL of a site: nothing that signs people in goes to
// another machine in the clear.
func (d *document) web(key, text string) {
	switch u, err := url.Parse(text); {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || key == "console.url" && u.Path != "":
		d.bad(key, "%q is not the URL of a site. Write it as in \"https://name.example.org\"", text)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		d.bad(key, "%q: people would sign in in the clear. Write https://", text)
	}
}
