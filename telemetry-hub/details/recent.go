package details

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

const (
	// recentTraces are remembered, in 3.7 MB: those of 20 seconds at 3,000 requests a
	// second. A slot is a newer trace's as soon as one falls on it.
	recentTraces = 1 << recentBits
	recentBits   = 16
	// recentSenders of a trace are remembered.
	recentSenders = 12
)

// recent remembers who has told of the newest traces, so that to follow one takes
// no look-up in the record store.
type recent struct {
	mu    sync.Mutex // guards the fields below
	slots []slot
	names []string
	index map[string]uint16
}

// slot is one trace. There is a sender for each record.
type slot struct {
	trace   Trace
	n       uint8
	senders [recentSenders]uint16
}

func (r *recent) init() { r.slots, r.index = make([]slot, recentTraces), make(map[string]uint16) }

func slotOf(t Trace) uint64 {
	// Parts that are random: of the IDs that the mesh makes all, of others some.
	h := binary.LittleEndian.Uint64(t[:]) ^ binary.LittleEndian.Uint64(t[8:])
	return h * 0x9e3779b97f4a7c15 >> (64 - recentBits)
}

// add notes the records of one sender's batch.
func (r *recent) add(sender string, columns *record.Columns) {
	if columns.Rows() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	number := r.number(sender)
	for row := range columns.Rows() {
		t := Trace(columns.TraceID(row))
		s := &r.slots[slotOf(t)]
		if s.trace != t {
			s.trace, s.n = t, 0
		}
		if s.n < recentSenders {
			s.senders[s.n] = number
			s.n++
		}
	}
}

// number is a sender's; when there were too many senders all is forgotten.
func (r *recent) number(sender string) uint16 {
	n, ok := r.index[sender]
	if !ok {
		if len(r.names) == math.MaxUint16 {
			clear(r.slots)
			clear(r.index)
			r.names = r.names[:0]
		}
		n = uint16(len(r.names))
		r.names, r.index[sender] = append(r.names, sender), n
	}
	return n
}

// told are the senders of a trace's records that are remembered, and how many
// records each told of it.
func (r *recent) told(t Trace) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[slotOf(t)]
	if s.trace != t {
		return nil
	}
	told := make(map[string]int, s.n)
	for _, n := range s.senders[:s.n] {
		told[r.names[n]]++
	}
	return told
}
