package cluster

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

const (
	// defaultRing is Istio's, below which MinimumRingSize is not put; maxRing is
	// Envoy's maximum_ring_size.
	defaultRing = 1024
	maxRing     = 8 << 20
)

// ring is a hash ring as Envoy builds it, entry for entry, so that a fleet of
// both sends a key to one endpoint: each endpoint has a share of entries after
// its weight, entry i at xxHash64("ip:port_i"). Source: Envoy's
// ring_hash_lb.cc.
type ring struct {
	hashes []uint64 // ascending
	owners []int32  // index among the usable, beside hashes
}

func newRing(usable []member, minimum uint64) *ring {
	if minimum == 0 {
		minimum = defaultRing
	}
	shares, least := normalized(usable)
	// The lightest endpoint gets a whole number of entries, as long as the
	// ring stays below its maximum.
	scale := min(math.Ceil(least*float64(minimum))/least, maxRing)
	type entry struct {
		hash  uint64
		owner int32
	}
	entries := make([]entry, 0, int(math.Ceil(scale)))
	var key []byte
	// Shares need not be whole: running sums carry the rest to the next one.
	target := 0.0
	for i, m := range usable {
		target += scale * shares[i]
		key = append(append(key[:0], m.first.Address...), '_')
		prefix := len(key)
		for n := uint64(0); float64(len(entries)) < target; n++ {
			key = strconv.AppendUint(key[:prefix], n, 10)
			entries = append(entries, entry{xxhash.Sum64(key), int32(i)})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.hash, b.hash) })
	r := &ring{hashes: make([]uint64, len(entries)), owners: make([]int32, len(entries))}
	for i, e := range entries {
		r.hashes[i], r.owners[i] = e.hash, e.owner
	}
	return r
}

// normalized are the weights as shares of 1, and the least of them.
func normalized(usable []member) (shares []float64, least float64) {
	total := 0.0
	for _, m := range usable {
		total += float64(m.weight)
	}
	least = 1
	for _, m := range usable {
		share := float64(m.weight) / total
		shares, least = append(shares, share), min(least, share)
	}
	return shares, least
}

// index is the first entry at or after hash, or the first of all behind the
// last; then one entry further for each attempt.
func (r *ring) index(hash uint64, attempt int) int {
	at, _ := slices.BinarySearch(r.hashes, hash)
	return int(r.owners[(at+attempt)%len(r.owners)])
}
