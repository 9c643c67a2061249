package sql

import "fmt"

// budget bounds the memory that a query's groups, values and rows take, by
// estimate. It is one per query, and not safe for concurrent use.
type budget struct {
	limit, used int64
	// exact are the values that quantiles hold.
	exact int
}

// MemoryError is a query that would need more memory than it may.
type MemoryError struct{ Limit int64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("the query's groups, distinct values or rows need more than %d MiB: bound start, group by what has fewer values, or add LIMIT (with ORDER BY only as many rows are held)", e.Limit>>20)
}

// take reports that there is room for so many bytes more.
func (b *budget) take(bytes int) error {
	if b.used += int64(bytes); b.used > b.limit {
		return &MemoryError{b.limit}
	}
	return nil
}

func (b *budget) giveBack(bytes int) { b.used -= int64(bytes) }

// valueBytes is what a Value takes, without its text.
const valueBytes = 48
