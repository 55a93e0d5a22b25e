package congestion

// Defaults and bounds of every controller.
const (
	// defaultPacketSize is the session packet of docs/protocol.md, section 2.
	defaultPacketSize = 1079
	// defaultInitialWindow in packets: thrice RFC 6928's ten, since
	// pacing spreads it and a route's first flight carries a whole page's requests.
	defaultInitialWindow = 32
	// defaultFixedRate is 100 Mbit/s in bytes per second.
	defaultFixedRate = 12_500_000
	// minWindowPackets keeps acknowledgements coming whatever was lost: fewer
	// than four packets in flight leave loss detection to the probe timer.
	minWindowPackets = 4
	// windowMax bounds every window in bytes, four times the largest session
	// flow-control window, so that no estimate can overflow a sum.
	windowMax = 128 << 20
	// rateMax bounds every rate in bytes per second (80 Gbit/s).
	rateMax = 10_000_000_000
)

// New returns a controller in its first state. It allocates once; nothing
// after it does.
func New(cfg Config) Controller {
	cfg = cfg.withDefaults()
	switch cfg.Kind {
	case Cubic:
		return newCubic(cfg)
	case Fixed:
		return newFixed(cfg)
	default:
		return newBBR(cfg)
	}
}

func (c Config) withDefaults() Config {
	if c.PacketSize <= 0 {
		c.PacketSize = defaultPacketSize
	}
	if c.InitialWindow <= 0 {
		c.InitialWindow = defaultInitialWindow
	}
	c.InitialWindow = max(c.InitialWindow, minWindowPackets)
	if c.FixedRate == 0 {
		c.FixedRate = defaultFixedRate
	}
	c.FixedRate = min(c.FixedRate, rateMax)
	return c
}
