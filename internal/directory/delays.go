package directory

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// How the delays between regions become known (docs/protocol.md, section 7.9): a
// median at each of three places, so that at none of them one that lies decides.
//
//  1. RegionDelays, at a node: of the round trips to its neighbours in a region,
//     which may delay their answers, or say of themselves that they are elsewhere.
//  2. Observer.delays, at an authority: of what nodes of two regions report.
//  3. Conditions.combineDelays, at a client: of what authorities say.

// DelayStep is what a node rounds delays to, in ms: enough to tell near from far,
// and too coarse to tell how one link is used.
const DelayStep = 5

// RegionDelays returns what a node reports that has measured round trips to
// neighbours: the median of each region, the lower of two. Nodes that v does not
// list are left out.
func RegionDelays(v *View, trips map[wire.NodeID]time.Duration) (out []RegionDelay) {
	byRegion := make([][]time.Duration, len(v.regions))
	for id, trip := range trips {
		if i, ok := v.find(id); ok {
			r := v.traits[i].region
			byRegion[r] = append(byRegion[r], trip)
		}
	}
	const step = DelayStep * time.Millisecond
	for r, trips := range byRegion {
		if len(trips) > 0 {
			slices.Sort(trips)
			middle := (trips[(len(trips)-1)/2] + step/2) / step
			out = append(out, RegionDelay{Region: v.regions[r], Millis: uint16(min(middle*DelayStep, DelayMax))})
		}
	}
	return out
}

// delayVoices is how many nodes must speak of two regions until a delay between
// them is told: so many that one alone does not make the median. Where there are
// few nodes, half of them are enough.
const delayVoices = 3

// delays are the medians of what the nodes of two regions say of each other.
func (o *Observer) delays(v *View, wall int64) []Delay {
	said := map[Delay][]uint16{} // by From and To
	nodes := map[string]int{}
	for _, node := range v.doc.Nodes {
		nodes[node.Region]++
		n := o.nodes[node.ID]
		if n == nil || wall-n.at > reportsKept {
			continue
		}
		for _, d := range n.Delays {
			if _, ok := slices.BinarySearch(v.regions, d.Region); ok {
				pair := Delay{From: min(node.Region, d.Region), To: max(node.Region, d.Region)}
				said[pair] = append(said[pair], d.Millis)
			}
		}
	}
	var out []Delay
	for pair, values := range said {
		there := nodes[pair.From]
		if pair.To != pair.From {
			there += nodes[pair.To]
		}
		if len(values) < min(delayVoices, (there+1)/2) {
			continue
		}
		slices.Sort(values)
		pair.Millis = values[len(values)/2]
		out = append(out, pair)
	}
	slices.SortFunc(out, Delay.compare)
	return out
}

// Delays are the round trips between regions that are known, by name ascending:
// those that nobody tells are left out.
func (c *Conditions) Delays() []Delay {
	if c == nil {
		return nil
	}
	return c.told
}
