package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// Open opens a segment of the bucket. Its index is downloaded if it is not in
// the cache; of the records nothing is read yet. There is nothing to close.
//
// A look-up in it costs one range read for each row group that may hold a hit
// and is not in the cache. One that runs while the segment is removed goes on
// until an object that it needs has gone; the error is then ErrNotFound. An
// object that is not what was uploaded is ErrDamaged, or segment.ErrCorrupt with
// row group and column.
//
// An index that the cache had to give up while the segment was open is read
// again whole, by whoever needs it and without regard to its context.
func (b *Bucket) Open(ctx context.Context, m Meta) (*segment.Segment, error) {
	x := &indexFile{bucket: b, object: m.Index}
	if err := x.load(ctx); err != nil {
		return nil, fmt.Errorf("open segment %s: %w", m.Name(), err)
	}
	d := &dataRange{bucket: b, object: m.Records}
	s, err := segment.Open(d, x, m.Index.Bytes, segment.Options{Name: m.Name(), Decoder: b.decoder})
	if err == nil {
		err = errors.Join(s.Damaged()...)
	}
	if err != nil {
		return nil, fmt.Errorf("%s in %s, which is as its hub uploaded it: %w: make another with segment.Reindex", m.Index.Name, b.where, err)
	}
	if s.Size() != m.Records.Bytes {
		return nil, fmt.Errorf("%w: %s in %s is the index of %d bytes, %s has %d", ErrDamaged, m.Index.Name, b.where, s.Size(), m.Records.Name, m.Records.Bytes)
	}
	d.segment.Store(s)
	return s, nil
}

// indexFile is an index in the cache. It holds no file open: there may be more
// segments than files a process can have.
type indexFile struct {
	bucket *Bucket
	object Object
}

// load makes sure that the index is in the cache and undamaged.
func (x *indexFile) load(ctx context.Context) error {
	b, s := x.bucket, indexSpan(x.object)
	if _, ok := b.cache.load(s); ok && b.cache.has(s) {
		b.stats.hits.Add(1)
		return nil
	}
	return x.fetch(ctx)
}

func (x *indexFile) fetch(ctx context.Context) error {
	b, s := x.bucket, indexSpan(x.object)
	ran, err := b.cache.once(ctx, s, func() error {
		b.cache.drop(s)
		b.stats.misses.Add(1)
		body, err := b.getChecked(ctx, x.object)
		if err != nil {
			return err
		}
		return b.cache.put(s, body)
	})
	if err == nil && !ran && !b.cache.has(s) {
		return x.fetch(ctx)
	}
	return err
}

// getChecked reads a whole object and compares it with its checksum.
func (b *Bucket) getChecked(ctx context.Context, o Object) ([]byte, error) {
	for last := false; ; last = true {
		body, err := b.get(ctx, o.Name, o.Bytes)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		if hex.EncodeToString(sum[:]) == o.SHA256 {
			return body, nil
		}
		b.stats.damaged.Add(1)
		if last {
			b.stats.errors.Add(1)
			return nil, fmt.Errorf("%w: %s in %s: its SHA-256 is not that of its meta: restore the object, or make the index again with segment.Reindex", ErrDamaged, o.Name, b.where)
		}
	}
}

// ReadAt implements io.ReaderAt.
func (x *indexFile) ReadAt(p []byte, offset int64) (int, error) {
	b, s := x.bucket, indexSpan(x.object)
	n := int(min(int64(len(p)), max(x.object.Bytes-offset, 0)))
	b.cache.touch(s)
	err := b.cache.readAt(s, p, offset)
	if errors.Is(err, os.ErrNotExist) {
		if err := x.fetch(context.Background()); err != nil {
			return 0, err
		}
		err = b.cache.readAt(s, p, offset)
	}
	if err != nil && n == len(p) {
		return 0, fmt.Errorf("read %s in the cache: %w", x.object.Name, err)
	}
	return n, err
}

// dataRange reads the records of a segment.
type dataRange struct {
	bucket  *Bucket
	object  Object
	segment atomic.Pointer[segment.Segment] // knows checksums; nil while it is opened
}

// ReadRange implements segment.Range.
func (d *dataRange) ReadRange(ctx context.Context, p []byte, offset int64) error {
	if len(p) == 0 {
		return nil
	}
	b := d.bucket
	s := span{objectHash(d.object.Name), offset, int64(len(p)), false}
	for {
		if b.cache.read(s, p) {
			b.stats.hits.Add(1)
			return nil
		}
		ran, err := b.cache.once(ctx, s, func() error { return d.fetch(ctx, s, p) })
		if ran || err != nil {
			return err
		}
		if !b.cache.has(s) { // what the other has read was not kept
			return d.fetch(ctx, s, p)
		}
	}
}

// fetch reads from the bucket into p, and keeps it if it is intact. If it is not
// it may have changed on its way, so it is read once more; then the segment says
// what is wrong.
func (d *dataRange) fetch(ctx context.Context, s span, p []byte) error {
	b := d.bucket
	b.stats.misses.Add(1)
	for last := false; ; last = true {
		if err := b.getRange(ctx, d.object.Name, p, s.offset); err != nil {
			return err
		}
		if seg := d.segment.Load(); seg == nil || seg.Intact(p, s.offset) {
			break
		}
		b.stats.damaged.Add(1)
		if last {
			b.o.Logger.Error("records in the bucket are damaged", "object", d.object.Name, "bucket", b.where, "offset", s.offset, "bytes", s.length)
			return nil
		}
	}
	if err := b.cache.put(s, p); err != nil {
		b.o.Logger.Warn("part of a segment not kept", "object", d.object.Name, "error", err)
	}
	return nil
}
