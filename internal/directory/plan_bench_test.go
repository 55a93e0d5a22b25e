package directory

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// BenchmarkPlan50000 asks for 300 plans a second, at their times whether earlier
// ones are done or not, on a directory of 50,000 nodes, of which every tenth is
// shut, and combines new conditions every 10 s meanwhile, on one goroutine. It
// prints the P95 and the most of how long a plan took from when it was asked for.
func BenchmarkPlan50000(b *testing.B) {
	nodes := testNodes(20_000, 30_000)
	for i, n := range nodes {
		n.Operator = fmt.Sprintf("operator-%d", i%5000)
		n.Region = fmt.Sprintf("region-%d", i%20)
		n.Capacity = uint32(10 + i%90)
	}
	v := testView(b, nodes)
	a := testAuthorities(b, 2, 3)
	board := testBoard(b, &a.trust)
	combine := func(round uint64) *Conditions {
		m := &Bulletin{Network: testNetwork, Document: v.doc.Hash(), Round: RoundAt(testWall) + round}
		for i := 0; i < len(nodes); i += 5 {
			m.Nodes = append(m.Nodes, NodeState{ShortOf(v.doc.Nodes[i].ID), State{Flags: Flags(i % 2), Score: 99, Load: uint8(i % 11), Queue: uint16(i % 20 * QueueStep)}})
		}
		for i := range v.regions {
			for j := i; j < len(v.regions); j++ {
				m.Delays = append(m.Delays, Delay{v.regions[i], v.regions[j], uint16(10 + 12*(j-i))})
			}
		}
		for i := range 3 {
			if _, err := board.Accept(signedBulletin(b, 1000+uint64(i), m)); err != nil {
				b.Fatal(err)
			}
		}
		c, _ := board.Conditions(v, testWall+int64(round)*10)
		return c
	}
	const gap = time.Second / 300
	rng := prng.FromUint64(1).Stream("plan")
	c := combine(0)
	var took []time.Duration
	b.ResetTimer()
	begun := time.Now()
	for i := range b.N {
		due := begun.Add(time.Duration(i) * gap)
		<-time.After(time.Until(due))
		if i%3000 == 2999 {
			c = combine(uint64(i / 3000))
		}
		req := Request{Level: wire.Level(i % 4), QoS: QoS(i / 4 % 2), Port: 443, Conditions: c}
		if _, err := v.Plan(rng, req); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(due))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "ms-P95")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-max")
}

func BenchmarkPlanWithConditions(b *testing.B) {
	v := testView(b, thousandNodes())
	c := conditionsOf(v, nil, func(from, to int) int { return 10 + 12*(to-from) })
	for level := wire.Fast; level <= wire.Extreme; level++ {
		b.Run(level.String(), func(b *testing.B) {
			rng := prng.FromUint64(1).Stream("plan")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Plan(rng, Request{Level: level, Port: 443, Conditions: c}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
