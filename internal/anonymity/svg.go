package anonymity

import (
	"fmt"
	"io"
	"strings"
)

// Geometry of a plot, in pixels.
const (
	plotLeft, plotWidth, plotRight = 300, 460, 60
	rowHeight, plotTop, plotBottom = 18, 46, 40
	plotFont                       = "font-family='sans-serif' font-size='12'"
)

// plot is rows of values on one axis, drawn as SVG.
type plot struct {
	title    string
	from, to float64
	step     float64    // of the axis' marks
	band     [2]float64 // shaded; none if both are 0
	bandName string
	rows     []plotRow
}

// plotRow is one value with an interval; without a name it is a gap with a heading.
type plotRow struct {
	heading, name    string
	value, low, high float64
}

func (p *plot) x(v float64) float64 {
	return plotLeft + plotWidth*(min(max(v, p.from), p.to)-p.from)/(p.to-p.from)
}

// write draws the plot.
func (p *plot) write(w io.Writer) error {
	var b strings.Builder
	height := plotTop + rowHeight*len(p.rows) + plotBottom
	bottom := height - plotBottom
	fmt.Fprintf(&b, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' %s>\n", plotLeft+plotWidth+plotRight, height, plotFont)
	fmt.Fprintf(&b, "<rect width='100%%' height='100%%' fill='white'/>\n<text x='10' y='20' font-size='14'>%s</text>\n", escape(p.title))
	if p.band != [2]float64{} {
		fmt.Fprintf(&b, "<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='#d8ecd8'/>\n", p.x(p.band[0]), plotTop-8, p.x(p.band[1])-p.x(p.band[0]), bottom-plotTop+8)
		fmt.Fprintf(&b, "<text x='%.1f' y='%d' text-anchor='middle' fill='#385'>%s</text>\n", p.x((p.band[0]+p.band[1])/2), plotTop-14, escape(p.bandName))
	}
	for v := p.from; v <= p.to+p.step/2; v += p.step {
		fmt.Fprintf(&b, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='#ddd'/>\n", p.x(v), p.x(v), plotTop-8, bottom)
		fmt.Fprintf(&b, "<text x='%.1f' y='%d' text-anchor='middle'>%.4g</text>\n", p.x(v), bottom+18, v)
	}
	for i, r := range p.rows {
		y := plotTop + rowHeight*i + rowHeight/2
		if r.heading != "" {
			fmt.Fprintf(&b, "<text x='10' y='%d' font-weight='bold'>%s</text>\n", y+4, escape(r.heading))
			continue
		}
		fmt.Fprintf(&b, "<text x='%d' y='%d' text-anchor='end'>%s</text>\n", plotLeft-12, y+4, escape(r.name))
		fmt.Fprintf(&b, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='#357' stroke-width='2'/>\n", p.x(r.low), p.x(r.high), y, y)
		fmt.Fprintf(&b, "<circle cx='%.1f' cy='%d' r='4' fill='#357'/>\n", p.x(r.value), y)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;").Replace(s)
}

// AUC draws how far each attacker gets, over all kinds of traffic.
func (r *Report) AUC(w io.Writer) error {
	p := plot{title: fmt.Sprintf("Flow correlation: AUC, 95 %% interval; %d flows of %v, %d seeds", r.Size.Flows, r.Size.Length, r.Seeds),
		from: 0.3, to: 1, step: 0.1, band: [2]float64{0.45, chanceMost}, bandName: "chance"}
	last := ""
	for _, x := range r.Results {
		if x.Kind != AllKinds {
			continue
		}
		if heading := fmt.Sprintf("%s, load %v: %s", x.Level, x.Load, x.View); heading != last {
			p.rows = append(p.rows, plotRow{heading: heading})
			last = heading
		}
		p.rows = append(p.rows, plotRow{name: x.Attacker, value: x.AUC.Value, low: x.AUC.Low, high: x.AUC.High})
	}
	return p.write(w)
}

// KindAUC draws the strongest attacker of each level, view and kind of traffic.
func (r *Report) KindAUC(w io.Writer) error {
	p := plot{title: "Strongest attacker by kind of traffic: AUC, 95 % interval",
		from: 0.3, to: 1, step: 0.1, band: [2]float64{0.45, chanceMost}, bandName: "chance"}
	for _, l := range r.Loads {
		for _, view := range Views {
			p.rows = append(p.rows, plotRow{heading: fmt.Sprintf("%s, load %v: %s", l.Name, l.Factor, view)})
			for _, kind := range groups[1:] {
				if x, found := r.best(l, view, kind); found {
					p.rows = append(p.rows, plotRow{name: string(kind) + ", " + x.Attacker, value: x.AUC.Value, low: x.AUC.Low, high: x.AUC.High})
				}
			}
		}
	}
	return p.write(w)
}

// Bits draws the entropies of the levels that mix.
func (r *Report) Bits(w io.Writer) error {
	p := plot{title: "Entropy in bits: mean, and what 5 % of cells lie below", to: 10, step: 1}
	for _, l := range r.Loads {
		if l.MixBits.Mean == 0 {
			continue
		}
		p.rows = append(p.rows, plotRow{heading: fmt.Sprintf("%s, load %v, %.0f %% of cells real", l.Name, l.Factor, 100*l.Use)})
		for _, e := range []struct {
			name string
			of   Entropy
		}{{"which input an output of a mix is", l.MixBits}, {"who sent what leaves the last mix", l.PathBits}} {
			p.rows = append(p.rows, plotRow{name: e.name, value: e.of.Mean, low: e.of.P05, high: e.of.Mean})
		}
	}
	return p.write(w)
}
