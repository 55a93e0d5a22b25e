package trace

import "slices"

// Gini is how unevenly a load lies on nodes: half the mean difference between
// two of them, as a part of the mean load (Gini 1912). It is 0 where all bear the
// same and close to 1 where one bears all; one of ten that bears 40 %, while the
// others share the rest, makes 0.3. Of no load it is 0.
func Gini(loads []uint64) float64 {
	sorted := slices.Sorted(slices.Values(loads))
	sum, weighted := 0.0, 0.0
	for i, load := range sorted {
		sum += float64(load)
		weighted += float64(2*i+1-len(sorted)) * float64(load)
	}
	if sum == 0 {
		return 0
	}
	return weighted / (float64(len(sorted)) * sum)
}
