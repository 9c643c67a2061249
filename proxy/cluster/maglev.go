package cluster

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// defaultTable is Envoy's; maxTable is the bound of its table_size.
const (
	defaultTable = 65537
	maxTable     = 5000011
)

// maglev is Google's consistent hash with the permutations that Envoy uses:
// offset xxHash64(address) mod size, step xxHash64(address, seed 1) mod
// (size-1) plus 1. Sources: the Maglev paper, section 3.4; Envoy's maglev_lb.cc.
type maglev struct {
	owners []int32 // index among the usable
}

// claimant is an endpoint while the table is filled.
type claimant struct {
	offset, step, next uint64
	weight, due        float64
}

func newMaglev(usable []member, size uint64) *maglev {
	if size == 0 {
		size = defaultTable
	}
	shares, _ := normalized(usable)
	most := 0.0
	claimants := make([]claimant, len(usable))
	for i, m := range usable {
		seeded := xxhash.NewWithSeed(1)
		_, _ = seeded.WriteString(m.first.Address) // never fails
		claimants[i] = claimant{
			offset: xxhash.Sum64String(m.first.Address) % size,
			step:   seeded.Sum64()%(size-1) + 1,
			weight: shares[i],
		}
		most = math.Max(most, shares[i])
	}
	m := &maglev{owners: make([]int32, size)}
	for i := range m.owners {
		m.owners[i] = -1
	}
	m.fill(claimants, most)
	return m
}

// fill lets the endpoints claim slots in turn, the heaviest in every round and
// the others in as many as their weight is of its.
func (m *maglev) fill(claimants []claimant, most float64) {
	left := len(m.owners)
	for round := 1; ; round++ {
		for i := range claimants {
			c := &claimants[i]
			if float64(round)*c.weight < c.due {
				continue
			}
			c.due += most
			m.claim(c, int32(i))
			if left--; left == 0 {
				return
			}
		}
	}
}

// claim takes the first free slot of the endpoint's own order.
func (m *maglev) claim(c *claimant, owner int32) {
	size := uint64(len(m.owners))
	for {
		slot := (c.offset + c.step*c.next) % size
		c.next++
		if m.owners[slot] < 0 {
			m.owners[slot] = owner
			return
		}
	}
}

// index: a retry changes the hash's upper bits, as Envoy does, for a slot far
// away.
func (m *maglev) index(hash uint64, attempt int) int {
	if attempt > 0 {
		hash ^= math.MaxUint64 - uint64(attempt) + 1
	}
	return int(m.owners[hash%uint64(len(m.owners))])
}
