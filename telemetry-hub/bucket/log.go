package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrGap marks log that is missing between two chunks.
var ErrGap = errors.New("log is missing")

// maxChunk bounds a chunk.
const maxChunk = 256 << 20

// Chunk is a piece of a hub's log.
type Chunk struct {
	Number uint64 // of the log
	Offset int64  // in it
	Bytes  []byte
}

// ChunkOwner is a hub whose log stands in the bucket.
type ChunkOwner struct {
	Hub         string
	Chunks      int
	Bytes       int64
	First, Last uint64 // numbers of its logs
	// Oldest and Newest chunk, by the store's clock. A hub without traffic has
	// only old ones: whether it lives is what its lease tells.
	Oldest, Newest time.Time
}

// chunkName is what the name of a chunk says.
type chunkName struct {
	hub            string
	number         uint64
	offset, length int64
	crc            uint32 // CRC-32C
	modified       time.Time
}

func (n *chunkName) object() string {
	return fmt.Sprintf("%s/%s/%0*d/%0*d-%d-%08x.chunk", logRoot, n.hub, digits, n.number, digits, n.offset, n.length, n.crc)
}

func parseChunk(object string) (n chunkName, ok bool) {
	parts := strings.Split(object, "/")
	if len(parts) != 5 {
		return n, false
	}
	n.hub = parts[2]
	number, err := strconv.ParseUint(parts[3], 10, 64)
	n.number = number
	fields := strings.Split(strings.TrimSuffix(parts[4], ".chunk"), "-")
	if err != nil || len(fields) != 3 {
		return n, false
	}
	offset, err := strconv.ParseInt(fields[0], 10, 64)
	length, err2 := strconv.ParseInt(fields[1], 10, 64)
	crc, err3 := strconv.ParseUint(fields[2], 16, 32)
	n.offset, n.length, n.crc = offset, length, uint32(crc)
	return n, errors.Join(err, err2, err3) == nil && n.object() == object && checkName(n.hub) == nil && offset >= 0 && length > 0 && length <= maxChunk
}

// PutChunk writes bytes of a hub's log, from offset on in the log of that
// number. Once it returns without an error they are durable. It may be repeated
// with the same bytes; others must not follow at the same place, so a hub that
// has lost the end of its log begins another number. b is not kept.
func (b *Bucket) PutChunk(ctx context.Context, hub string, number uint64, offset int64, body []byte) error {
	if err := checkName(hub); err != nil {
		return fmt.Errorf("write chunk: hub: %w", err)
	}
	if len(body) == 0 || len(body) > maxChunk || offset < 0 {
		return fmt.Errorf("write chunk of hub %s: %d bytes at %d: want 1 to %d", hub, len(body), offset, maxChunk)
	}
	n := chunkName{hub: hub, number: number, offset: offset, length: int64(len(body)), crc: crc32.Checksum(body, castagnoli)}
	return b.putBytes(ctx, n.object(), body, false)
}

// Chunks reads a hub's log back, in order of number and offset. A chunk that is
// missing before the one that follows is ErrGap, one that is not what was written
// ErrDamaged; both come without a chunk, and reading goes on behind them. Any
// other error ends it. What was already dropped of a log is no gap: it begins
// where its first chunk does.
func (b *Bucket) Chunks(ctx context.Context, hub string) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		names, err := b.chunkNames(ctx, hub)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		var last chunkName
		for i, n := range names {
			if end := last.offset + last.length; i > 0 && last.number == n.number && n.offset > end {
				err := fmt.Errorf("%w: hub %s, log %d, bytes %d to %d: they were never written or were deleted by hand; what follows is read", ErrGap, hub, n.number, end, n.offset)
				if !yield(Chunk{}, err) {
					return
				}
			}
			last = n
			body, err := b.chunk(ctx, n)
			if !yield(Chunk{n.number, n.offset, body}, err) || err != nil && !errors.Is(err, ErrDamaged) {
				return
			}
		}
	}
}

// chunk reads a chunk and checks it.
func (b *Bucket) chunk(ctx context.Context, n chunkName) ([]byte, error) {
	body, err := b.get(ctx, n.object(), n.length)
	if err != nil {
		return nil, err
	}
	if int64(len(body)) != n.length || crc32.Checksum(body, castagnoli) != n.crc {
		b.stats.damaged.Add(1)
		return nil, fmt.Errorf("%w: %s in %s is not what its name says: restore it from a version of the object; what follows is read", ErrDamaged, n.object(), b.where)
	}
	return body, nil
}

// chunkNames lists a hub's chunks in order, or all hubs' if hub is empty.
func (b *Bucket) chunkNames(ctx context.Context, hub string) (names []chunkName, err error) {
	if hub != "" {
		if err := checkName(hub); err != nil {
			return nil, fmt.Errorf("list chunks: hub: %w", err)
		}
	}
	entries, err := b.list(ctx, path.Join(logRoot, hub), true)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if n, ok := parseChunk(e.name); ok {
			n.modified = e.modified
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b chunkName) int {
		return cmp.Or(strings.Compare(a.hub, b.hub), cmp.Compare(a.number, b.number), cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length))
	})
	return names, nil
}

// ChunkOwners lists all hubs whose log stands in the bucket, by name.
func (b *Bucket) ChunkOwners(ctx context.Context) ([]ChunkOwner, error) {
	names, err := b.chunkNames(ctx, "")
	if err != nil {
		return nil, err
	}
	var owners []ChunkOwner
	for _, n := range names {
		if len(owners) == 0 || owners[len(owners)-1].Hub != n.hub {
			owners = append(owners, ChunkOwner{Hub: n.hub, First: n.number, Oldest: n.modified, Newest: n.modified})
		}
		o := &owners[len(owners)-1]
		o.Chunks++
		o.Bytes += n.length
		o.Last = n.number
		if n.modified.Before(o.Oldest) {
			o.Oldest = n.modified
		}
		if n.modified.After(o.Newest) {
			o.Newest = n.modified
		}
	}
	return owners, nil
}

// DropChunks deletes a hub's logs up to and with a number, whose segments are in
// the bucket. It may be repeated. The oldest go first, so that a crash leaves no
// gap.
func (b *Bucket) DropChunks(ctx context.Context, hub string, upTo uint64) error {
	names, err := b.chunkNames(ctx, hub)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if n.number <= upTo {
			errs = append(errs, b.remove(ctx, n.object()))
		}
	}
	return errors.Join(errs...)
}

// ChunkEnds are the lengths of a hub's logs in the bucket, by number: as far as
// they stand there without a gap, 0 for one whose beginning is missing.
func (b *Bucket) ChunkEnds(ctx context.Context, hub string) (map[uint64]int64, error) {
	names, err := b.chunkNames(ctx, hub)
	if err != nil {
		return nil, err
	}
	ends := map[uint64]int64{}
	for _, n := range names {
		if end := ends[n.number]; n.offset <= end {
			ends[n.number] = max(end, n.offset+n.length)
		} else {
			ends[n.number] = end
		}
	}
	return ends, nil
}

// ChunkLease is the lease on a hub's log. The hub itself renews it as long as it
// lives, by a nonce that stands beside its log, so that after a restart it goes
// on at once. Another that gets the lease has it for good: it reads the log,
// makes segments of it under the same Log names, and drops it. A hub that has
// lost its lease writes on under another name.
func (b *Bucket) ChunkLease(hub, nonce string, ttl time.Duration) (*Lease, error) {
	return b.lease("log-"+hub, nonce, ttl)
}
