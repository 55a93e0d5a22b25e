package quic

import (
	"crypto/tls"
	"errors"
	"net/http"
	"testing"

	quicgo "github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/pipetest"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var carrier = pipetest.Carrier{Kind: directory.CarrierQUIC, Listen: Listen, Dial: Dial, Browser: browser}

func browser(t *tls.Config) (http.RoundTripper, func()) {
	tr := &http3.Transport{TLSClientConfig: t}
	return tr, func() { tr.Close() }
}

func TestCarrier(t *testing.T)        { carrier.Run(t) }
func BenchmarkHandshake(b *testing.B) { carrier.BenchmarkHandshake(b) }
func BenchmarkEcho(b *testing.B)      { carrier.BenchmarkEcho(b) }

// packetSize is just enough: a datagram of the network passes without path MTU
// discovery, and one that needs a larger packet is lost without an error.
func TestPacketSize(t *testing.T) {
	_, door := carrier.Start(t)
	p := carrier.Open(t, door)
	defer p.Close()
	if err := p.(*conn).stream.SendDatagram(make([]byte, wire.DatagramSize)); err != nil {
		t.Errorf("1280 bytes: %v", err)
	}
	var large *quicgo.DatagramTooLargeError
	if err := p.(*conn).stream.SendDatagram(make([]byte, 1500)); !errors.As(err, &large) {
		t.Errorf("1500 bytes: %v", err)
	} else {
		t.Logf("the largest datagram is %d bytes", large.MaxDatagramPayloadSize)
	}
	if err := p.Send(make([]byte, 1500)); err != nil {
		t.Errorf("a datagram that is too large ends the pipe: %v", err)
	}
}
