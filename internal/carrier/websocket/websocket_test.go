package websocket

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/pipetest"
	"github.com/nyxnet/nyx/internal/directory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var carrier = pipetest.Carrier{Kind: directory.CarrierWebSocket, Listen: Listen, Dial: Dial, Browser: browser}

func browser(t *tls.Config) (http.RoundTripper, func()) {
	tr := &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true}
	return tr, tr.CloseIdleConnections
}

func TestCarrier(t *testing.T)        { carrier.Run(t) }
func BenchmarkHandshake(b *testing.B) { carrier.BenchmarkHandshake(b) }
func BenchmarkEcho(b *testing.B)      { carrier.BenchmarkEcho(b) }

// The hello names http/1.1, as a browser's for a WebSocket does.
func TestHelloNamesTheProtocol(t *testing.T) {
	_, door := carrier.Start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	listened := *door
	listened.Addr = ln.Addr().(*net.TCPAddr).AddrPort()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if p, err := Dial(t.Context(), &listened); err == nil {
			t.Error("there is no server: ", p)
		}
	}()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, 1400)
	if _, err := io.ReadFull(c, hello); err != nil || !bytes.Contains(hello, []byte("\x08http/1.1")) {
		t.Errorf("hello %q, %v", hello, err)
	}
	c.Close()
	<-ended
}

// The path opened as a page is a page like others that are not there.
func TestPathIsNoPage(t *testing.T) {
	_, door := carrier.Start(t)
	if rsp, _ := carrier.Get(t, door, door.Path); rsp.StatusCode != http.StatusNotFound || rsp.ProtoMajor != 2 {
		t.Errorf("%s over HTTP/%d", rsp.Status, rsp.ProtoMajor)
	}
}
