package bucket

import "sync/atomic"

// Stats of a bucket since it was opened, but for CacheBytes, which is now.
type Stats struct {
	Gets, GetBytes int64 // reads of the bucket, failed ones too, and what came
	Puts, PutBytes int64 // writes, failed ones too, and what was taken
	Lists, Deletes int64
	Retries        int64 // tries after a first one that failed
	Errors         int64 // operations that failed for good
	Damaged        int64 // reads that came with a wrong checksum

	CacheHits, CacheMisses int64 // of indexes and of parts of records
	CacheEvictions         int64
	CacheFailures          int64 // files of the cache that could not be written, or were damaged
	CacheBytes             int64
}

type counters struct {
	gets, getBytes, puts, putBytes, lists, deletes, retries, errors, damaged atomic.Int64

	hits, misses, evictions, failures, cached atomic.Int64
}

// Stats are the counts so far.
func (b *Bucket) Stats() Stats {
	c := &b.stats
	return Stats{
		Gets: c.gets.Load(), GetBytes: c.getBytes.Load(), Puts: c.puts.Load(), PutBytes: c.putBytes.Load(),
		Lists: c.lists.Load(), Deletes: c.deletes.Load(), Retries: c.retries.Load(), Errors: c.errors.Load(), Damaged: c.damaged.Load(),
		CacheHits: c.hits.Load(), CacheMisses: c.misses.Load(), CacheEvictions: c.evictions.Load(),
		CacheFailures: c.failures.Load(), CacheBytes: c.cached.Load(),
	}
}
