package details

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

// recentRecords are remembered, in 1.5 MB: those of 13 seconds at 20,000 a second.
const recentRecords = 1 << 18

// recent remembers who has told of the newest records, so that to follow a trace
// takes no look-up in the record store. It is written for every record and read for
// few, so it is a list in the order of writing that readers go through.
type recent struct {
	mu      sync.Mutex // guards the fields below
	hashes  []uint32   // of the trace
	senders []uint16
	at      int // where the next goes
	names   []string
	index   map[string]uint16
}

func (r *recent) init() {
	r.hashes, r.senders, r.index = make([]uint32, 0, recentRecords), make([]uint16, 0, recentRecords), make(map[string]uint16)
}

func hashOf(t Trace) uint32 {
	// Of the IDs that the mesh makes every part is random, of others some.
	h := binary.LittleEndian.Uint64(t[:]) ^ binary.LittleEndian.Uint64(t[8:])
	return uint32(h * 0x9e3779b97f4a7c15 >> 32)
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
		h := hashOf(Trace(columns.TraceID(row)))
		if len(r.hashes) < recentRecords {
			r.hashes, r.senders = append(r.hashes, h), append(r.senders, number)
			continue
		}
		r.hashes[r.at], r.senders[r.at] = h, number
		r.at = (r.at + 1) % recentRecords
	}
}

// number is a sender's; when there were too many senders all is forgotten.
func (r *recent) number(sender string) uint16 {
	n, ok := r.index[sender]
	if !ok {
		if len(r.names) == math.MaxUint16 {
			clear(r.index)
			r.hashes, r.senders, r.names, r.at = r.hashes[:0], r.senders[:0], r.names[:0], 0
		}
		n = uint16(len(r.names))
		r.names, r.index[sender] = append(r.names, sender), n
	}
	return n
}

// told are the senders of a trace's records that are remembered, and how many
// records each told of it. One in some ten thousand answers has a sender too many,
// which an order does no harm to.
func (r *recent) told(t Trace) map[string]int {
	want := hashOf(t)
	told := make(map[string]int)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range r.hashes {
		if h == want {
			told[r.names[r.senders[i]]]++
		}
	}
	return told
}
