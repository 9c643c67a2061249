package segment

// memory is what a row group is read and decompressed into, and scratch for its
// values. A Decoder keeps some of it for the next look-up: what a row group
// needs is some hundred kilobytes, and to clear and collect them would take
// longer than to use them.
type memory struct {
	slab   []byte // handed out up to its length
	codes  []uint32
	levels [2][]uint32
	starts []int32
	longs  []int64
	hit    []bool
}

const (
	minSlab = 256 << 10
	maxSlab = 4 << 20 // more is not kept
)

// bytes hands out n bytes, which are not zeroed and good until release.
func (m *memory) bytes(n int) []byte {
	at := len(m.slab)
	if n > cap(m.slab)-at {
		m.slab, at = make([]byte, 0, max(n, minSlab, min(2*cap(m.slab), maxSlab))), 0
	}
	m.slab = m.slab[:at+n]
	return m.slab[at : at+n : at+n]
}

// hits is a table of n entries, all false.
func (m *memory) hits(n int) []bool {
	if cap(m.hit) < n {
		m.hit = make([]bool, n)
	}
	m.hit = m.hit[:n]
	clear(m.hit)
	return m.hit
}

// borrow takes memory for one row group.
func (d *Decoder) borrow() *memory {
	select {
	case m := <-d.free:
		return m
	default:
		return new(memory)
	}
}

// giveBack ends the use of everything that m has handed out. The list is short,
// and no collection empties it, as it would a sync.Pool.
func (d *Decoder) giveBack(m *memory) {
	if m == nil || cap(m.slab) > maxSlab {
		return
	}
	m.slab = m.slab[:0]
	select {
	case d.free <- m:
	default:
	}
}
