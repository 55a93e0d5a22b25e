package control

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// pending is a SESSION_INIT that waits.
type pending struct {
	init     wire.SessionInit
	by       Holder
	came     machine.Time
	question Question
	passed   bool // it shows a pass that was good when it came
	own      bool // it is of the owner's probe
	gone     bool // its holder is, or has asked anew
}

// due is when its turn is, among those that have a decision.
func (p *pending) due() machine.Time { return p.came.Add(slack[p.question.Credential]) }

// queue keeps requests until their turn, one of each holder: in a line for each
// question, in the order in which they came. It never holds more than most; those
// that are gone count until their turn or their end.
type queue struct {
	most  int
	held  int // in all lines
	gone  int // of them
	lines [NumQuestions]line
	of    map[Holder]*pending
}

// line is a first-in first-out queue.
type line struct {
	items []*pending
	head  int
}

func (l *line) len() int { return len(l.items) - l.head }

func (l *line) first() *pending { return l.items[l.head] }

func (l *line) pop() *pending {
	p := l.items[l.head]
	l.items[l.head] = nil
	if l.head++; l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
	} else if l.head > 64 && 2*l.head > len(l.items) {
		l.items, l.head = l.items[:copy(l.items, l.items[l.head:])], 0
	}
	return p
}

func newQueue(most int) queue { return queue{most: most, of: map[Holder]*pending{}} }

// len is how many wait.
func (q *queue) len() int { return q.held - q.gone }

// repeated reports whether a holder's request waits already; another one of it takes
// the place of the first.
func (q *queue) repeated(m *wire.SessionInit, by Holder) bool {
	p := q.of[by]
	if p != nil && p.init.ClientID == m.ClientID && p.init.Nonce == m.Nonce {
		return true
	}
	q.release(by)
	return false
}

func (q *queue) release(by Holder) {
	if p := q.of[by]; p != nil {
		delete(q.of, by)
		p.gone = true
		q.gone++
	}
}

// push puts a request at the end of its line. Where there is no room, it returns
// whom that costs: the youngest of the weakest credential, be it this one.
func (q *queue) push(p *pending) (shed *pending) {
	if q.held >= q.most {
		if shed = q.weakest(p.question.Credential); shed == nil {
			return p
		}
		if shed.gone {
			shed = nil
		}
	}
	l := &q.lines[p.question.place()]
	l.items = append(l.items, p)
	q.of[p.by] = p
	q.held++
	return shed
}

// weakest takes out the youngest request of the weakest credential below one.
func (q *queue) weakest(than Credential) *pending {
	var from *line
	for place := range q.lines {
		l := &q.lines[place]
		if l.len() == 0 || QuestionAt(place).Credential >= than {
			continue
		}
		last := func(l *line) *pending { return l.items[len(l.items)-1] }
		if from == nil || last(l).question.Credential == last(from).question.Credential && last(l).came > last(from).came {
			from = l // lines of weaker credentials come first
		}
	}
	if from == nil {
		return nil
	}
	p := from.items[len(from.items)-1]
	if from.items = from.items[:len(from.items)-1]; from.len() == 0 {
		from.items, from.head = from.items[:0], 0
	}
	q.out(p)
	return p
}

// out takes what has left its line off the books.
func (q *queue) out(p *pending) {
	q.held--
	if p.gone {
		q.gone--
	} else {
		delete(q.of, p.by)
	}
}

// pop takes out the request whose turn is first of those that are decided.
func (q *queue) pop(decided func(Question) bool) *pending {
	for q.held > 0 {
		var best *line
		for place := range q.lines {
			l := &q.lines[place]
			if l.len() > 0 && decided(QuestionAt(place)) && (best == nil || l.first().due() < best.first().due()) {
				best = l
			}
		}
		if best == nil {
			return nil
		}
		p := best.pop()
		q.out(p)
		if !p.gone {
			return p
		}
	}
	return nil
}

// expired takes out a request that has waited for too long.
func (q *queue) expired(now machine.Time) *pending {
	for place := range q.lines {
		for l := &q.lines[place]; l.len() > 0 && now >= l.first().came.Add(waitMax); {
			p := l.pop()
			q.out(p)
			if !p.gone {
				return p
			}
		}
	}
	return nil
}

// nextEnd is when the first of those that wait has waited for too long, or Never.
func (q *queue) nextEnd() machine.Time {
	next := machine.Never
	for place := range q.lines {
		if l := &q.lines[place]; l.len() > 0 {
			next = min(next, l.first().came.Add(waitMax))
		}
	}
	return next
}
