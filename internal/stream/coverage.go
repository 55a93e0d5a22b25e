package stream

// coverLeast is how many packets a path carries before its figures are expected: by
// then the first of them has been acknowledged, or the path is dead.
const coverLeast = 16

// Coverage is how many paths there are figures of.
type Coverage struct {
	Measured int // paths of which every figure is there
	Lacking  int // paths that carried packets enough, of which one is not
	New      int // paths that have just begun
}

// Cover looks the paths of sessions over.
func Cover(all []Stats) (c Coverage) {
	for i := range all {
		for _, p := range all[i].Paths {
			switch {
			case p.RTT > 0 && p.MinRTT > 0 && p.Sent > 0:
				c.Measured++
			case p.Sent < coverLeast:
				c.New++
			default:
				c.Lacking++
			}
		}
	}
	return c
}

// Share is that of the paths whose figures are there, of those whose should be; ok is
// false as long as there are none.
func (c Coverage) Share() (share float64, ok bool) {
	all := c.Measured + c.Lacking
	return float64(c.Measured) / float64(max(all, 1)), all > 0
}
