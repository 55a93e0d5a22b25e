package console

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// shown is what the pages of the network show: a picture with its figures, and the texts
// that events will replace. Own is there for who came by a link alone.
type shown struct {
	telemetry.Picture
	Figures figures
	Text    map[string]string
	Meter   map[string]float64
	State   map[string]string
	Alerts  []spoken
}

func (c *Console) shown(k *call) shown {
	p, f := c.live.now(k.who.Local)
	return shown{p, f, f.texts(&p), f.meters(&p), f.states(&p), f.in(k.face.lang)}
}

// chart is one of the overview: a series of the ring, times its scale if there is one.
type chart struct {
	Series, Unit string
	Scale        int
}

// Charts of a network on this machine, and of a fleet.
var (
	localCharts = []chart{{"p95", "ms", 0}, {"carried", "MB/s", 0}, {"own", "MB/s", 0}, {"sessions", "", 0}}
	fleetCharts = []chart{{"carried", "MB/s", 0}, {"load", "%", 100}, {"strain", "%", 100}, {"cover", "%", 100}}
)

// overview shows the figures of the service.
func (c *Console) overview(k *call) (any, error) {
	charts := localCharts
	if c.cfg.Fleet {
		charts = fleetCharts
	}
	return struct {
		shown
		Charts    []chart
		Anonymity []anonymity
		Objective string
	}{c.shown(k), charts, measuredAnonymity, millis(p95Objective)}, nil
}

// anonymity is what attackers made of a level when it was measured last.
type anonymity struct {
	Level, Adversary, Attacker string
	AUC, Low, High             float64 // and its interval of 95 %
}

// measuredAnonymity are the strongest attackers of who sees every wire, over all flows,
// as docs/anonymity.md has them; the test compares.
var measuredAnonymity = []anonymity{
	{"fast", "every wire", "moves of class", 1.00, 1.00, 1.00},
	{"standard", "every wire", "moves of class", 0.63, 0.59, 0.67},
	{"high", "every wire", "losses", 0.52, 0.49, 0.55},
	{"extreme", "every wire", "volume out", 0.53, 0.50, 0.57},
}

// region is a place of the map.
type region struct {
	Name  string
	X, Y  int
	Nodes []spot
	R     int // of its circle
}

// spot is a node on the map, relative to its region.
type spot struct {
	telemetry.NodePicture
	X, Y int
}

// way joins two regions.
type way struct {
	X1, Y1, X2, Y2, X, Y int
	Millis               uint16
}

const mapWidth, mapHeight = 960, 560

// networkMap shows regions with their nodes. There are no coordinates in a directory:
// regions stand on a circle, in the order of their names.
func (c *Console) networkMap(k *call) (any, error) {
	s := c.shown(k)
	byName := map[string][]telemetry.NodePicture{}
	for _, n := range s.Nodes {
		byName[n.Region] = append(byName[n.Region], n)
	}
	var regions []region
	for name := range byName {
		regions = append(regions, region{Name: name})
	}
	slices.SortFunc(regions, func(a, b region) int { return cmp.Compare(a.Name, b.Name) })
	for i := range regions {
		g := &regions[i]
		g.place(i, len(regions), byName[g.Name])
	}
	return struct {
		shown
		Regions       []region
		Ways          []way
		Width, Height int
	}{s, regions, ways(regions, s.Delays), mapWidth, mapHeight}, nil
}

// place puts region i of so many on the map, with its nodes around it.
func (g *region) place(i, of int, nodes []telemetry.NodePicture) {
	g.X, g.Y, g.R = mapWidth/2, mapHeight/2, 190
	if of > 1 {
		angle := 2*math.Pi*float64(i)/float64(of) - math.Pi
		g.X += int(math.Round(mapWidth * 0.31 * math.Cos(angle)))
		g.Y += int(math.Round(mapHeight * 0.29 * math.Sin(angle)))
		g.R = max(40, min(112, 400/of))
	}
	for j, n := range nodes {
		angle := 2*math.Pi*float64(j)/float64(len(nodes)) - math.Pi/2
		out := float64(g.R) * 0.72
		g.Nodes = append(g.Nodes, spot{n, g.X + int(math.Round(out*math.Cos(angle))), g.Y + int(math.Round(out*math.Sin(angle)))})
	}
}

func ways(regions []region, delays []telemetry.DelayPicture) (out []way) {
	at := map[string]*region{}
	for i := range regions {
		at[regions[i].Name] = &regions[i]
	}
	for _, d := range delays {
		a, b := at[d.From], at[d.To]
		if a == nil || b == nil || a == b || d.From > d.To {
			continue
		}
		out = append(out, way{a.X, a.Y, b.X, b.Y, (a.X + b.X) / 2, (a.Y + b.Y) / 2, d.Millis})
	}
	return out
}

func (c *Console) sessions(k *call) (any, error) { return c.shown(k), nil }

func (c *Console) routes(k *call) (any, error) { return c.shown(k), nil }

func (c *Console) relays(k *call) (any, error) { return c.shown(k), nil }

func (c *Console) directory(k *call) (any, error) { return c.shown(k), nil }

// drain has a node leave.
func (c *Console) drain(k *call) (string, error) {
	name := k.PostForm.Get("node")
	p, _ := c.live.now(false)
	if !slices.ContainsFunc(p.Nodes, func(n telemetry.NodePicture) bool { return n.Name == name }) {
		return "", errNone // nothing that somebody typed goes into the record
	}
	return "/relays", c.attempt(k, "console.drain", name, func() error { return c.cfg.Orders.Drain(name) })
}

// rotate replaces the key of the Stream nodes' fleet.
func (c *Console) rotate(k *call) (string, error) {
	return "/relays", c.attempt(k, "console.rotate", "fleet", func() error { return c.cfg.Orders.RotateKeys(c.cfg.Now()) })
}

// NoneWhy names why the own client has no figure of λ and cover: none at its level, or not
// yet; "" where the page says below that no client is shown.
func (s shown) NoneWhy() string {
	switch {
	case s.Level == wire.Fast.String():
		return "none"
	case s.Figures.HasOwn:
		return "yet"
	}
	return ""
}

// LossOf is a session's share of lost packets.
func (s shown) LossOf(one telemetry.SessionPicture) float64 {
	if one.Packets == 0 {
		return 0
	}
	return float64(one.Lost) / float64(one.Packets)
}

// LeftOf is how much of a route's life is left.
func (s shown) LeftOf(r telemetry.RoutePicture) time.Duration { return max(0, r.Life-r.Age) }
