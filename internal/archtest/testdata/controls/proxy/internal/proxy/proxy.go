// Package proxy goes around the network.
package proxy

import (
	"net"
	"net/http" // want "proxy imports net/http"
)

func f() {
	net.Dial("tcp", "a:1")       // want "proxy uses net.Dial"
	new(net.Dialer).Dial("", "") // want "proxy uses net.Dialer"
	net.LookupHost("a")          // want "proxy uses net.LookupHost"
	net.ResolveTCPAddr("", "")   // want "proxy uses net.ResolveTCPAddr"
	_ = net.DefaultResolver      // want "proxy uses net.DefaultResolver"
	net.Listen("tcp", ":0")
}
