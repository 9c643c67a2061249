package segment

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// groupFacts is what the index says about a row group, in the form in which
// both who writes the group and who verifies it have it.
type groupFacts struct {
	rows                                              int
	starts, durations, codes, grpc, bytesIn, bytesOut []int64 // grpc is 0 when the request was not gRPC, else one above the status

	traces     [][16]byte // each once
	requestIDs []string   // each once

	// Texts that sums are kept by: dictionary, and a code for each row.
	protocols, verdicts []string
	protocol, verdict   []int32

	tuples  []*origin
	origins []int32 // for each row a place in tuples
}

func (f *groupFacts) reset(rows int) {
	f.rows = rows
	f.traces, f.requestIDs = f.traces[:0], f.requestIDs[:0]
	f.protocols, f.verdicts, f.protocol, f.verdict = f.protocols[:0], f.verdicts[:0], f.protocol[:0], f.verdict[:0]
	f.tuples, f.origins = f.tuples[:0], f.origins[:0]
}

// failed is the mesh's definition of a request that failed, as the graph has
// it: no response, a server error, or a gRPC status other than OK. grpc is one
// above the status.
func failed(code, grpc int64) bool { return code == 0 || code >= 500 || grpc > 1 }

// hashes of IDs, cut to hashBits. The function is XXH64 with a seed that stands
// in the index: public, so that another program can look up, and different in
// each segment, so that nobody who chooses request IDs can make them collide in
// many. Trace IDs take the seed itself, request IDs the one above.
type hashes struct{ seed uint64 }

const (
	hashBits  = 40
	groupBits = 64 - hashBits
	maxGroups = 1 << groupBits
	groupMask = maxGroups - 1
)

func (h hashes) trace(id [16]byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(h.seed)
	_, _ = d.Write(id[:]) // it never fails
	return d.Sum64() &^ groupMask
}

func (h hashes) request(id string) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(h.seed + 1)
	_, _ = d.WriteString(id)
	return d.Sum64() &^ groupMask
}

// appendEntries adds an index entry for every ID of the group: the hash above,
// the group's number below.
func (h hashes) appendEntries(dst []uint64, f *groupFacts, group int) []uint64 {
	dst = slices.Grow(dst, len(f.traces))
	for _, id := range f.traces {
		if id != ([16]byte{}) { // nobody looks for no trace
			dst = append(dst, h.trace(id)|uint64(group))
		}
	}
	for _, id := range f.requestIDs {
		if id != "" {
			dst = append(dst, h.request(id)|uint64(group))
		}
	}
	return dst
}

// groupStats let a scan pass over a row group.
type groupStats struct {
	minStart, maxStart, maxDuration, maxCode int64
	anyFailed                                bool
}

func statsOf(f *groupFacts) groupStats {
	s := groupStats{minStart: slices.Min(f.starts), maxStart: slices.Max(f.starts), maxDuration: slices.Max(f.durations), maxCode: slices.Max(f.codes)}
	for i, code := range f.codes {
		if failed(code, f.grpc[i]) {
			s.anyFailed = true
			break
		}
	}
	return s
}

// serviceSets say which services a row group holds: exact sets over the
// segment's list of services. A Bloom filter would take as much for the tens of
// services of a usual mesh and answer less surely; and since a sealing window
// mixes all services, what prunes is the third set, of those that failed.
type serviceSets struct {
	names  []string
	index  map[string]int
	groups [][numSets][]byte // bitmaps by place in names; short ones end in zeros
}

// The sets of a group.
const (
	setSource = iota
	setDestination
	setFailed // destinations of which a request failed
	numSets
)

// maxServices bounds the names: with more, the sets say nothing.
const maxServices = 1 << 14

func newServiceSets() *serviceSets { return &serviceSets{index: make(map[string]int)} }

func (s *serviceSets) place(name string) int {
	i, ok := s.index[name]
	if !ok {
		i = len(s.names)
		s.names = append(s.names, name)
		s.index[name] = i
	}
	return i
}

func (s *serviceSets) add(f *groupFacts) {
	var sets [numSets][]byte
	destination := make([]int, len(f.tuples))
	for i, t := range f.tuples {
		destination[i] = s.place(t.at(DestinationService))
		sets[setDestination] = setBit(sets[setDestination], destination[i])
		sets[setSource] = setBit(sets[setSource], s.place(t.at(SourceService)))
	}
	for i, code := range f.codes {
		if failed(code, f.grpc[i]) {
			sets[setFailed] = setBit(sets[setFailed], destination[f.origins[i]])
		}
	}
	s.groups = append(s.groups, sets)
}

func setBit(b []byte, i int) []byte {
	for len(b) <= i/8 {
		b = append(b, 0)
	}
	b[i/8] |= 1 << (i % 8)
	return b
}

func hasBit(b []byte, i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
