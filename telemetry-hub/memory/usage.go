package memory

import "runtime/metrics"

// Usage reads what the process holds. It is not safe for concurrent use; create it
// with NewUsage.
type Usage struct{ samples []metrics.Sample }

// Names of what is read, in the order of Usage.samples (package runtime/metrics).
var names = []string{
	"/memory/classes/total:bytes",
	"/memory/classes/heap/released:bytes",
	"/memory/classes/heap/free:bytes",
	"/memory/classes/heap/unused:bytes",
	"/memory/classes/heap/objects:bytes",
	"/gc/heap/live:bytes",
	"/gc/cycles/total:gc-cycles",
}

// NewUsage returns a usage ready to be read.
func NewUsage() *Usage {
	u := &Usage{samples: make([]metrics.Sample, len(names))}
	for i, n := range names {
		u.samples[i].Name = n
	}
	return u
}

// Read is the bytes that a collection could not give back, as far as the last one
// knows: what was alive then, and all that is not heap. cycles counts the
// collections, so that a reader knows an old answer.
//
// What the process has mapped is no measure: between two collections the runtime lets
// the heap grow up to the limit whatever is alive.
func (u *Usage) Read() (bytes int64, cycles uint64) {
	metrics.Read(u.samples)
	at := func(i int) int64 { return int64(u.samples[i].Value.Uint64()) }
	other := at(0) - at(1) - at(2) - at(3) - at(4)
	return max(other, 0) + at(5), uint64(at(6))
}
