package directory

import (
	"fmt"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// thousandNodes: 1000 nodes, 400 Stream and 600 Mix, 200 operators, 20 regions.
func thousandNodes() []*Node {
	nodes := testNodes(400, 600)
	for i, n := range nodes {
		n.Operator = fmt.Sprintf("operator-%d", i%200)
		n.Region = fmt.Sprintf("region-%d", i%20)
		n.Capacity = uint32(10 + i%90)
	}
	return nodes
}

func BenchmarkDraw(b *testing.B) {
	v := testView(b, thousandNodes())
	for level := wire.Fast; level <= wire.Extreme; level++ {
		b.Run(level.String(), func(b *testing.B) {
			rng := prng.FromUint64(1).Stream("draw")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Draw(rng, Request{Level: level, Port: 443}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewView(b *testing.B) {
	d := testDocument(b, thousandNodes())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewView(d); err != nil {
			b.Fatal(err)
		}
	}
}
