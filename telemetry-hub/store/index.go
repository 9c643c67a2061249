package store

import (
	"encoding/binary"
	"hash/maphash"
)

// index finds the frames of one log file that hold a given ID. It lives in
// memory, some 12 bytes for each pair of ID and frame: a list in each of some
// thousand buckets, of which a look-up reads one. Adding is what has to be cheap:
// it happens for each record, a look-up now and then. Not safe for concurrent use.
type index struct{ buckets [1 << bucketBits][]entry }

// bucketBits make the ends of all lists fit into a processor's second cache, and
// a list of a full log a few hundred entries long.
const bucketBits = 12

type entry struct {
	hash   uint32 // its lower half; the bucket is of its upper one
	offset uint32 // of the frame; files stay below 4 GiB
}

func newIndex() *index { return new(index) }

func (x *index) add(hash uint64, offset int64) {
	b := &x.buckets[hash>>(64-bucketBits)]
	*b = append(*b, entry{uint32(hash), uint32(offset)})
}

// find returns the offsets of the frames that may hold the ID, newest first.
func (x *index) find(hash uint64) (offsets []int64) {
	list := x.buckets[hash>>(64-bucketBits)]
	last := int64(-1)
	for i := len(list) - 1; i >= 0; i-- {
		// Records of one request in one batch are one after the other.
		if e := list[i]; e.hash == uint32(hash) && int64(e.offset) != last {
			last = int64(e.offset)
			offsets = append(offsets, last)
		}
	}
	return offsets
}

// hasher hashes IDs with a seed of its own process, so that nobody can choose
// request IDs that collide.
type hasher struct{ seed maphash.Seed }

func (h hasher) trace(id [16]byte) uint64 {
	// Trace IDs are random already, but not those that clients choose.
	return maphash.Bytes(h.seed, id[:])
}

func (h hasher) request(id string) uint64 {
	b := make([]byte, 8, 8+len(id)) // apart from trace IDs
	binary.LittleEndian.PutUint64(b, 1)
	return maphash.Bytes(h.seed, append(b, id...))
}
