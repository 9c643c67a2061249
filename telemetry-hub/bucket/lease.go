package bucket

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Lease lets one of several hubs do a thing, without any service but the bucket.
// It is a chain of objects, each of which can be created only once: the newest
// names the holder, who adds one to renew it. Who has seen the newest stay the
// same for the whole term, by its own clock, may add the next. So the hubs'
// clocks need not agree.
//
// Where the store refuses to create an object twice there is one holder at a
// time, up to what a process is delayed between asking Held and acting on it.
// S3, and most of what speaks it, does so (If-None-Match), and so do folders.
// Elsewhere (Exclusive says so) two may hold it after they began at the same
// time, until one of them sees the other's name. It is safe for concurrent use.
type Lease struct {
	b     *Bucket
	name  string
	ttl   time.Duration
	nonce string // tells holders apart

	mu        sync.Mutex // guards the fields below
	term      uint64     // the newest that was seen
	ours      bool
	resumable bool      // the newest that was seen has our nonce
	seen      time.Time // when the newest was seen first, or was ours
	checked   bool
	exclusive bool
}

// leaseBody is what stands in the object of a term.
type leaseBody struct {
	Holder   string    `json:"holder"` // empty once released
	Nonce    string    `json:"nonce"`
	Acquired time.Time `json:"acquired"` // for people; no hub relies on it
	Seconds  float64   `json:"ttl_seconds"`
}

// DefaultLease is the term of a lease that names none.
const DefaultLease = 2 * time.Minute

// Lease returns the lease of that name, which nobody holds yet for all it knows;
// all hubs must name the same ttl.
func (b *Bucket) Lease(name string, ttl time.Duration) (*Lease, error) {
	return b.lease(name, rand.Text(), ttl)
}

func (b *Bucket) lease(name, nonce string, ttl time.Duration) (*Lease, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	def(&ttl, DefaultLease)
	return &Lease{b: b, name: name, ttl: ttl, nonce: nonce}, nil
}

// RenewParts of a term are how often a lease is renewed in it.
const RenewParts = 3

// Renew takes the lease if it is free, renews it if it is ours, and else looks
// whether its holder still renews it. It reports whether it is ours now. It is
// to be called every ttl/RenewParts by all who want the lease.
func (l *Lease) Renew(ctx context.Context) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heldLocked() {
		return l.add(ctx, l.b.o.Hub)
	}
	term, err := l.newest(ctx)
	if err != nil {
		return false, err
	}
	now := l.b.o.Now()
	if term != l.term || l.seen.IsZero() {
		l.term, l.seen, l.ours = term, now, false
		free, err := l.free(ctx)
		if err != nil || !free {
			return false, err
		}
	} else if !l.ours && !l.resumable && term > 0 && now.Sub(l.seen) < l.ttl {
		return false, nil
	}
	return l.add(ctx, l.b.o.Hub)
}

// Held reports whether the lease is ours now, without asking the bucket.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heldLocked()
}

func (l *Lease) heldLocked() bool { return l.ours && l.b.o.Now().Sub(l.seen) < l.ttl }

// Exclusive reports whether the store refuses to create an object twice, as far
// as that is known: it is tried when the lease is taken first.
func (l *Lease) Exclusive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exclusive
}

// Release gives the lease up, if it is ours, so that the next need not wait.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.heldLocked() {
		return nil
	}
	_, err := l.add(ctx, "")
	l.ours = false
	return err
}

func (l *Lease) folder() string { return path.Join(leaseRoot, l.name) }

func (l *Lease) object(term uint64) string {
	return fmt.Sprintf("%s/%0*d.json", l.folder(), digits, term)
}

// newest is the term that counts, 0 if there is none.
func (l *Lease) newest(ctx context.Context) (newest uint64, err error) {
	entries, err := l.b.list(ctx, l.folder(), false)
	for _, e := range entries {
		term, err := strconv.ParseUint(strings.TrimSuffix(path.Base(e.name), ".json"), 10, 64)
		if err == nil {
			newest = max(newest, term)
		}
	}
	return newest, err
}

// free reports whether the newest term, which was seen first just now, needs no
// waiting for: there is none, its holder gave it up, or it is of our own nonce.
func (l *Lease) free(ctx context.Context) (bool, error) {
	l.resumable = false
	if l.term == 0 {
		return true, nil
	}
	body, err := l.read(ctx, l.term)
	l.resumable = err == nil && body.Nonce == l.nonce
	return body.Holder == "" && body.Nonce != "" || l.resumable, err
}

// read is what stands in a term; nothing if it has gone, as a newer one has come
// then, or is no lease: it lapses like any other.
func (l *Lease) read(ctx context.Context, term uint64) (body leaseBody, err error) {
	b, err := l.b.get(ctx, l.object(term), maxSmall)
	if errors.Is(err, ErrNotFound) || err == nil && json.Unmarshal(b, &body) != nil {
		return leaseBody{}, nil
	}
	return body, err
}

// Lost reports whether somebody else has, or had, the newest term. Whoever holds
// a lease by a nonce of his own has then lost it, even if it is free again.
func (l *Lease) Lost(ctx context.Context) (bool, error) {
	term, err := l.newest(ctx)
	if err != nil || term == 0 {
		return false, err
	}
	body, err := l.read(ctx, term)
	return body.Nonce != "" && body.Nonce != l.nonce, err
}

// add creates the next term. If that place is taken by a term of our own, which
// we created without learning of it, it creates the one behind.
func (l *Lease) add(ctx context.Context, holder string) (bool, error) {
	ours, err := l.addNext(ctx, holder)
	if ours || err != nil {
		return ours, err
	}
	body, err := l.read(ctx, l.term)
	if err != nil || body.Nonce != l.nonce {
		return false, nil // another's, or one that is told from ours by the next call
	}
	return l.addNext(ctx, holder)
}

// addNext creates the next term. It is ours if we created it and none is newer: one
// that was created after a long sleep may fill the place of an old one.
func (l *Lease) addNext(ctx context.Context, holder string) (bool, error) {
	from := l.b.o.Now()
	term := l.term + 1
	body, err := json.Marshal(leaseBody{holder, l.nonce, from.UTC(), l.ttl.Seconds()})
	if err != nil {
		return false, err
	}
	ours, err := l.b.create(ctx, l.object(term), body)
	if err != nil {
		return false, fmt.Errorf("lease %s: %w", l.name, err)
	}
	newest, err := l.newest(ctx)
	if err != nil {
		return false, fmt.Errorf("lease %s: %w", l.name, err)
	}
	if !ours || newest != term {
		l.term, l.seen, l.ours = newest, l.b.o.Now(), false
		return false, nil
	}
	if err := l.check(ctx, body); err != nil {
		return false, err
	}
	// The time before the bucket was asked: others count from a later one.
	l.term, l.seen, l.ours = term, from, true
	return true, l.removeBefore(ctx, term)
}

// check finds out once whether the store refuses to create an object twice.
func (l *Lease) check(ctx context.Context, body []byte) error {
	if l.checked {
		return nil
	}
	err := l.b.putBytes(ctx, l.object(l.term+1), body, true)
	if l.exclusive = errors.Is(err, errExists); l.exclusive {
		err = nil
	}
	l.checked = err == nil
	if l.checked && !l.exclusive {
		l.b.o.Logger.Warn("the object store lets an object be created twice: two hubs may do the same work, which harms nothing", "bucket", l.b.where)
	}
	return err
}

// removeBefore deletes the terms before, but for the last, which somebody may be
// reading.
func (l *Lease) removeBefore(ctx context.Context, term uint64) error {
	entries, err := l.b.list(ctx, l.folder(), false)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.name < l.object(term-1) {
			errs = append(errs, l.b.remove(ctx, e.name))
		}
	}
	return errors.Join(errs...)
}
