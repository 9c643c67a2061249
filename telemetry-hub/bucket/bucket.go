package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/thanos-io/objstore"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// ErrNotFound marks an object that is not, or no longer, in the bucket.
var ErrNotFound = errors.New("object not found")

// ErrDamaged marks an object that is not what was uploaded.
var ErrDamaged = errors.New("object damaged")

// Bucket is an open bucket. It is safe for concurrent use.
type Bucket struct {
	o         Options
	where     string // for errors
	store     objstore.Bucket
	transport http.RoundTripper
	reads     chan struct{} // holds a token for each read under way
	cache     *cache
	decoder   *segment.Decoder
	stats     counters
}

// Close releases connections and decoder. No operation may be under way, and no
// segment from Open may be used any more.
func (b *Bucket) Close() error {
	b.decoder.Close()
	if t, ok := b.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return b.store.Close()
}

// operation is one request to the bucket, in errors and for its limits.
type operation struct {
	verb, object string
	bytes        int64 // that it moves
	createOnly   bool
	read         bool // bounded by Options.Reads
}

// do tries an operation until it succeeds, fails for good, or ctx or the
// attempts end. Its errors name operation, object and what to do.
func (b *Bucket) do(ctx context.Context, op operation, try func(context.Context) error) error {
	for n := 1; ; n++ {
		status, err := b.attempt(ctx, op, try)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s %s in %s: %w", op.verb, op.object, b.where, ctx.Err())
		}
		next, final := b.judge(err, status)
		if final != nil || n >= b.o.Attempts {
			if !errors.Is(final, ErrNotFound) && !errors.Is(final, errExists) {
				b.stats.errors.Add(1)
			}
			if final == nil {
				final = fmt.Errorf("%w (%d attempts)", err, n)
			}
			return fmt.Errorf("%s %s in %s: %w: %s", op.verb, op.object, b.where, final, next)
		}
		b.stats.retries.Add(1)
		if err := b.pause(ctx, n); err != nil {
			return fmt.Errorf("%s %s in %s: %w", op.verb, op.object, b.where, err)
		}
	}
}

func (b *Bucket) attempt(ctx context.Context, op operation, try func(context.Context) error) (status int, err error) {
	if op.read {
		select {
		case b.reads <- struct{}{}:
			defer func() { <-b.reads }()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	a := &attempt{createOnly: op.createOnly}
	limit := b.o.AttemptTimeout + time.Duration(op.bytes>>20)*time.Second
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, attemptKey{}, a), limit)
	defer cancel()
	err = try(ctx)
	return int(a.status.Load()), err
}

// judge says what to do about an error; final is nil if another try may help.
func (b *Bucket) judge(err error, status int) (next string, final error) {
	switch {
	case status == http.StatusPreconditionFailed:
		return "it was created before", errExists
	case b.store.IsObjNotFoundErr(err) || errors.Is(err, os.ErrNotExist):
		return "it was removed, by retention or by hand; if nobody did, look at the bucket's lifecycle rules", ErrNotFound
	case b.store.IsAccessDeniedErr(err) || status == http.StatusForbidden || status == http.StatusUnauthorized || errors.Is(err, os.ErrPermission):
		return "check the credentials, and that they may list, get, put and delete objects", err
	case status == http.StatusNotFound:
		return "create the bucket, or correct its name in the configuration", err
	case errors.Is(err, ErrDamaged):
		return "if it comes again, something between hub and bucket changes bytes", nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %v; check the endpoint and the network", b.o.AttemptTimeout), nil
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status == http.StatusConflict:
		return fmt.Sprintf("it answered %d; check the state of the object store", status), nil
	case status >= 400:
		return fmt.Sprintf("it refused with %d; compare the configuration with the object store's documentation", status), err
	}
	return "check the endpoint, the network and, for a folder, its disk", nil
}

// pause waits after the nth failure.
func (b *Bucket) pause(ctx context.Context, n int) error {
	wait := min(b.o.Backoff<<min(n-1, 16), 5*time.Second)
	t := time.NewTimer(wait/2 + rand.N(wait/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// getRange fills p from offset on.
func (b *Bucket) getRange(ctx context.Context, object string, p []byte, offset int64) error {
	op := operation{verb: fmt.Sprintf("read %d bytes at %d of", len(p), offset), object: object, bytes: int64(len(p)), read: true}
	return b.do(ctx, op, func(ctx context.Context) error {
		b.stats.gets.Add(1)
		r, err := b.store.GetRange(ctx, object, offset, int64(len(p)))
		if err != nil {
			return err
		}
		n, err := io.ReadFull(r, p)
		b.stats.getBytes.Add(int64(n))
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends after %d of %d bytes", ErrDamaged, n, len(p))
		}
		return errors.Join(err, r.Close())
	})
}

// get reads a whole object of at most limit bytes.
func (b *Bucket) get(ctx context.Context, object string, limit int64) (body []byte, err error) {
	op := operation{verb: "read", object: object, bytes: limit, read: true}
	err = b.do(ctx, op, func(ctx context.Context) error {
		b.stats.gets.Add(1)
		r, err := b.store.Get(ctx, object)
		if err != nil {
			return err
		}
		body, err = io.ReadAll(io.LimitReader(r, limit+1))
		b.stats.getBytes.Add(int64(len(body)))
		if err == nil && int64(len(body)) > limit {
			err = fmt.Errorf("%w: it has more than %d bytes", ErrDamaged, limit)
		}
		return errors.Join(err, r.Close())
	})
	return body, err
}

// put writes an object of which open gives the bytes, for each try anew. With
// createOnly the error of one that is there is errExists.
func (b *Bucket) put(ctx context.Context, object string, size int64, createOnly bool, open func() (io.ReadCloser, error)) error {
	op := operation{verb: "write", object: object, bytes: size, createOnly: createOnly}
	return b.do(ctx, op, func(ctx context.Context) error {
		b.stats.puts.Add(1)
		r, err := open()
		if err != nil {
			return err
		}
		err = b.store.Upload(ctx, object, r)
		if err == nil {
			b.stats.putBytes.Add(size)
		}
		return errors.Join(err, r.Close())
	})
}

func (b *Bucket) putBytes(ctx context.Context, object string, body []byte, createOnly bool) error {
	return b.put(ctx, object, int64(len(body)), createOnly, func() (io.ReadCloser, error) {
		return sized{bytes.NewReader(body)}, nil
	})
}

// sized lets objstore see how long the reader is.
type sized struct{ *bytes.Reader }

// ObjectSize implements objstore.ObjectSizer.
func (s sized) ObjectSize() (int64, error) { return s.Size(), nil }

// Close implements io.Closer.
func (sized) Close() error { return nil }

// remove deletes an object; one that is not there is no error.
func (b *Bucket) remove(ctx context.Context, object string) error {
	err := b.do(ctx, operation{verb: "delete", object: object}, func(ctx context.Context) error {
		b.stats.deletes.Add(1)
		return b.store.Delete(ctx, object)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// listed is an entry of a listing; the name of a folder ends in a slash.
type listed struct {
	name     string
	modified time.Time // zero for a folder, and if it was not asked for
}

// list is what stands in a folder, in order of names. With deep it is all
// objects below it, with their times.
func (b *Bucket) list(ctx context.Context, dir string, deep bool) (entries []listed, err error) {
	var o []objstore.IterOption
	if deep {
		o = []objstore.IterOption{objstore.WithRecursiveIter(), objstore.WithUpdatedAt()}
	}
	err = b.do(ctx, operation{verb: "list", object: dir, read: true}, func(ctx context.Context) error {
		b.stats.lists.Add(1)
		entries = entries[:0]
		return b.store.IterWithAttributes(ctx, dir, func(a objstore.IterObjectAttributes) error {
			at, _ := a.LastModified()
			entries = append(entries, listed{a.Name, at})
			return nil
		}, o...)
	})
	return entries, err
}

// stat is size and time of an object.
func (b *Bucket) stat(ctx context.Context, object string) (a objstore.ObjectAttributes, err error) {
	err = b.do(ctx, operation{verb: "look at", object: object, read: true}, func(ctx context.Context) error {
		var err error
		a, err = b.store.Attributes(ctx, object)
		return err
	})
	return a, err
}

// create writes an object if there is none, and reports whether the one that is
// there now is body: then it may be an earlier try of ours whose answer was
// lost, so body must be ours alone.
func (b *Bucket) create(ctx context.Context, object string, body []byte) (ours bool, err error) {
	err = b.putBytes(ctx, object, body, true)
	if !errors.Is(err, errExists) {
		return err == nil, err
	}
	have, err := b.get(ctx, object, maxSmall)
	return bytes.Equal(have, body), err
}
