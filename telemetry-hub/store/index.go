package store

import (
	"encoding/binary"
	"hash/maphash"
)

// index finds the frames of one log file that hold a given ID. It lives in
// memory, about 30 bytes for each pair of ID and frame. Not safe for concurrent
// use.
type index struct {
	first map[uint64]int32 // hash to the newest entry
	links []entry
}

type entry struct {
	offset uint32 // of the frame, in units of one byte; files stay below 4 GiB
	next   int32  // older entry of the same hash, -1 at the end
}

func newIndex() *index { return &index{first: make(map[uint64]int32)} }

func (x *index) add(hash uint64, offset int64) {
	old, ok := x.first[hash]
	if !ok {
		old = -1
	} else if x.links[old].offset == uint32(offset) {
		return // another record of the same request in the same batch
	}
	x.first[hash] = int32(len(x.links))
	x.links = append(x.links, entry{offset: uint32(offset), next: old})
}

// find returns the offsets of the frames that may hold the ID, newest first.
func (x *index) find(hash uint64) []int64 {
	var out []int64
	i, ok := x.first[hash]
	for ok && i >= 0 {
		out = append(out, int64(x.links[i].offset))
		i = x.links[i].next
	}
	return out
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
