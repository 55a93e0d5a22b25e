package sim

// Partition splits the network: nodes of different groups no longer reach each
// other, from now on and for what is under way. Nodes in no group reach all.
// It replaces an earlier partition.
func (n *Network) Partition(groups ...[]*Node) {
	for _, nd := range n.nodes {
		nd.side = 0
	}
	for i, g := range groups {
		for _, nd := range g {
			nd.side = uint16(i + 1)
			n.trace.fault(tracePartition, n.now, nd.index)
		}
	}
	n.updateCuts()
}

// CutRegions stops everything from one region to another, in this direction.
func (n *Network) CutRegions(from, to string) {
	n.cutRegions[pairKey(uint32(n.region(from)), uint32(n.region(to)))] = true
	n.trace.fault(tracePartition, n.now, 0)
	n.updateCuts()
}

// Heal ends every partition and cut.
func (n *Network) Heal() {
	for _, nd := range n.nodes {
		nd.side = 0
	}
	clear(n.cutRegions)
	n.trace.fault(traceHeal, n.now, 0)
	n.updateCuts()
}

func (n *Network) updateCuts() {
	n.cuts = len(n.cutRegions) > 0
	for _, nd := range n.nodes {
		n.cuts = n.cuts || nd.side != 0
	}
}

func (n *Network) cut(from, to *Node) bool {
	if from.side != 0 && to.side != 0 && from.side != to.side {
		return true
	}
	return n.cutRegions[pairKey(uint32(from.region), uint32(to.region))]
}
