// Command httpsink is the far end of the end-to-end test's uploads.
//
//	httpsink -ready FILE    serve until a signal; FILE gets "HTTP-ADDR TCP-ADDR"
//	httpsink -free N        print N free TCP ports of the loopback interface
//
// Over HTTP it answers PUT and POST with "SHA-256 length" of what it got. On
// the TCP address it does so when the sender has ended its side, which tells
// whether half-close passes.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("httpsink: ")
	ready := flag.String("ready", "", "write the addresses to this `file` when serving")
	host := flag.String("host", "127.0.0.1", "`address` to serve at")
	free := flag.Int("free", 0, "print `n` free ports and exit")
	flag.Parse()
	if *free > 0 {
		printFree(*free)
		return
	}
	web, raw := listen(*host), listen(*host)
	go serveTCP(raw)
	line := fmt.Sprintf("%s %s\n", web.Addr(), raw.Addr())
	if err := os.WriteFile(*ready+".new", []byte(line), 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(*ready+".new", *ready); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(web, http.HandlerFunc(serveHTTP)))
}

func listen(host string) net.Listener {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

// printFree holds all the ports at once, so that they differ.
func printFree(n int) {
	for range n {
		ln := listen("127.0.0.1")
		defer ln.Close()
		fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	}
}

// sum answers with the hash and the length of everything in r.
func sum(w io.Writer, r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%x %d\n", h.Sum(nil), n)
	return err
}

func serveHTTP(w http.ResponseWriter, r *http.Request) {
	if err := sum(w, r.Body); err != nil {
		log.Print(err)
	}
}

func serveTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer c.Close()
			if err := sum(c, c); err != nil {
				log.Print(err)
			}
		}()
	}
}
