package stream

// table finds streams by id: open addressing with linear probing, at most half
// full. The zero table is empty and costs nothing; maps cost an idle session
// more than it may use.
type table struct {
	slots []*stream
	n     int
	last  *stream // the stream found last
}

const tableMin = 2

func (t *table) slot(id uint64) int {
	return int((id*0x9e3779b97f4a7c15)>>32) & (len(t.slots) - 1)
}

// get returns the stream of an id, or nil.
func (t *table) get(id uint64) *stream {
	if t.last != nil && t.last.id == id {
		return t.last
	}
	if t.n == 0 {
		return nil
	}
	for i := t.slot(id); t.slots[i] != nil; i = (i + 1) & (len(t.slots) - 1) {
		if t.slots[i].id == id {
			t.last = t.slots[i]
			return t.last
		}
	}
	return nil
}

// put adds a stream that is not in the table.
func (t *table) put(st *stream) {
	if 2*(t.n+1) > len(t.slots) {
		old := t.slots
		t.slots = make([]*stream, max(tableMin, 2*len(old)))
		for _, o := range old {
			if o != nil {
				t.insert(o)
			}
		}
	}
	t.insert(st)
	t.n++
}

func (t *table) insert(st *stream) {
	i := t.slot(st.id)
	for t.slots[i] != nil {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = st
}

// remove takes out a stream that is in the table.
func (t *table) remove(st *stream) {
	if t.last == st {
		t.last = nil
	}
	mask := len(t.slots) - 1
	i := t.slot(st.id)
	for t.slots[i] != st {
		i = (i + 1) & mask
	}
	t.slots[i] = nil
	t.n--
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		home := t.slot(t.slots[j].id)
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i], t.slots[j] = t.slots[j], nil
			i = j
		}
	}
	if t.n == 0 {
		t.slots = nil
	}
}
