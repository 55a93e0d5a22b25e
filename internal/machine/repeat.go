package machine

import "time"

// repeatEven is how many repetitions come at even distance.
const repeatEven = 4

// RepeatAfter is the distance between attempt n, counted from 0, and the next
// of something that is asked until it is answered: first, for as long as loss
// is the likeliest reason, then doubling up to most, since nobody may be there.
func RepeatAfter(n int, first, most time.Duration) time.Duration {
	return min(first<<min(max(n-repeatEven+1, 0), 16), most)
}
