package pass

// Subject is who gets passes, as an issuer counts them: a keyed hash, of which nobody
// learns who it is.
type Subject [16]byte

// subjectsMax bounds who is counted at a time (40 MB).
const subjectsMax = 1 << 20

// Quota is how many passes a subject gets in a window of time. It keeps how many each
// got, and nothing of what was signed.
type Quota struct {
	// Most is how many a subject gets in Window seconds.
	Most   int
	Window int64

	began int64
	taken map[Subject]int
}

// Take takes so many passes for a subject at a second since 1970, all or none. If it
// does not, it says in how many seconds there are some again.
func (q *Quota) Take(unix int64, who Subject, n int) (ok bool, wait int64) {
	if q.taken == nil || unix >= q.began+q.Window || unix < q.began {
		q.began, q.taken = unix-unix%q.Window, map[Subject]int{}
	}
	had, known := q.taken[who]
	if had+n > q.Most || !known && len(q.taken) >= subjectsMax {
		return false, q.began + q.Window - unix
	}
	q.taken[who] = had + n
	return true, 0
}
