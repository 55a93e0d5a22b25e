package gateway

// Paths is how many routes are paths of the first session that ends here.
func (g *Gateway) Paths() (n int) {
	for _, e := range g.Members()[0].Owner.ends {
		if e != nil {
			n++
		}
	}
	return n
}
