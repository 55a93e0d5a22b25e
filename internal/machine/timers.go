package machine

// Timers orders many timers of one machine. Setting, moving and stopping one
// costs a few comparisons; timers of one instant fire in the order in which
// they were set, so that runs repeat. The zero Timers is empty.
type Timers[T any] struct {
	heap []*Timer[T]
	seq  uint64
}

// Timer is one entry. It belongs to the thing that it wakes, usually as a
// field; its Value says what that is.
type Timer[T any] struct {
	Value T

	at  Time
	seq uint64
	pos int // place in the heap, from 1; 0 means not set
}

// At is when the timer fires, or Never when it is not set.
func (t *Timer[T]) At() Time {
	if t.pos == 0 {
		return Never
	}
	return t.at
}

// Set makes t fire at the given time, replacing an earlier setting. Never
// stops it.
func (q *Timers[T]) Set(t *Timer[T], at Time) {
	if at == Never {
		q.Stop(t)
		return
	}
	if t.pos != 0 && t.at == at {
		return
	}
	q.seq++
	t.at, t.seq = at, q.seq
	if t.pos == 0 {
		q.heap = append(q.heap, t)
		t.pos = len(q.heap)
	}
	q.down(q.up(t.pos - 1))
}

// Stop takes t out, if it is in.
func (q *Timers[T]) Stop(t *Timer[T]) {
	if t.pos == 0 {
		return
	}
	i, last := t.pos-1, len(q.heap)-1
	q.swap(i, last)
	q.heap[last] = nil
	q.heap = q.heap[:last]
	t.pos = 0
	if i < last {
		q.down(q.up(i))
	}
}

// Next is the time of the earliest timer, or Never.
func (q *Timers[T]) Next() Time {
	if len(q.heap) == 0 {
		return Never
	}
	return q.heap[0].at
}

// Pop takes out the earliest timer that is due at now.
func (q *Timers[T]) Pop(now Time) (*Timer[T], bool) {
	if len(q.heap) == 0 || q.heap[0].at > now {
		return nil, false
	}
	t := q.heap[0]
	q.Stop(t)
	return t, true
}

// Len is the number of timers set.
func (q *Timers[T]) Len() int { return len(q.heap) }

func (q *Timers[T]) less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *Timers[T]) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].pos, q.heap[j].pos = i+1, j+1
}

func (q *Timers[T]) up(i int) int {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			break
		}
		q.swap(i, parent)
		i = parent
	}
	return i
}

func (q *Timers[T]) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(q.heap) {
			return
		}
		if right := least + 1; right < len(q.heap) && q.less(right, least) {
			least = right
		}
		if !q.less(least, i) {
			return
		}
		q.swap(i, least)
		i = least
	}
}
