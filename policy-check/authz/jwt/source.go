package jwt

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// refreshAfter is the age at which keys are fetched again (Envoy's default
	// cache duration of jwt_authn).
	refreshAfter = 5 * time.Minute
	// staleAfter is the age from which a request waits for the next fetch, once.
	staleAfter = 2 * refreshAfter
	// retryAfter bounds how often a failing server is asked.
	retryAfter = time.Second
	// unknownAfter bounds how often tokens with unknown keys cause a fetch:
	// whoever sends them chooses the key ID.
	unknownAfter = 10 * time.Second
)

// Fetch gets the body at a URI. It returns when ctx ends.
type Fetch func(ctx context.Context, uri string) ([]byte, error)

// Source is where a rule's keys come from. Safe for concurrent use.
type Source struct {
	uri     string // empty for keys that are written out
	timeout time.Duration
	store   *Store
	keys    atomic.Pointer[Keys]
	fetched atomic.Int64 // when keys were fetched, Unix nanoseconds

	mu     sync.Mutex // guards the fields below
	flight chan struct{}
	tried  time.Time // when the last fetch began
	failed bool      // the last fetch did
}

// Inline is a source of keys that never change.
func Inline(k *Keys) *Source {
	s := &Source{}
	s.keys.Store(k)
	return s
}

// Remote tells whether a request may have to wait for the keys.
func (s *Source) Remote() bool { return s.uri != "" }

// get returns the keys: at once if there are some that are not too old, else
// after one fetch at most. Nil means that there never were any.
func (s *Source) get(ctx context.Context) *Keys {
	k := s.keys.Load()
	if s.uri == "" {
		return k
	}
	age := s.store.now().Sub(time.Unix(0, s.fetched.Load()))
	if k != nil && age < refreshAfter {
		return k
	}
	done, failing := s.fetch(retryAfter)
	// Keys that are there are used while their server fails.
	if done != nil && (k == nil || age >= staleAfter && !failing) {
		s.wait(ctx, done)
	}
	return s.keys.Load()
}

// renew fetches keys for a token that those at hand, had, don't know. It returns
// nil if there are no others.
func (s *Source) renew(ctx context.Context, had *Keys) *Keys {
	if s.uri == "" {
		return nil
	}
	if done, _ := s.fetch(unknownAfter); done != nil {
		s.wait(ctx, done)
	}
	if k := s.keys.Load(); k != had {
		return k
	}
	return nil
}

// wait waits for a fetch, but no longer than the timeout even if the fetch does
// not keep to it.
func (s *Source) wait(ctx context.Context, done <-chan struct{}) {
	limit := time.NewTimer(s.timeout)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// fetch starts a fetch, or joins the one under way. It is nil if the last one
// began less than pause ago and has ended. failing says that the last one that
// ended failed.
func (s *Source) fetch(pause time.Duration) (done <-chan struct{}, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight, s.failed
	}
	now := s.store.now()
	if s.failed {
		pause = max(pause, retryAfter)
	}
	if !s.tried.IsZero() && now.Sub(s.tried) < pause {
		return nil, s.failed
	}
	flight := make(chan struct{})
	if !s.store.start(func(ctx context.Context) { s.run(ctx, flight) }) {
		return nil, s.failed
	}
	s.flight, s.tried = flight, now
	return flight, s.failed
}

// run is one fetch. What fails leaves the last good keys.
func (s *Source) run(ctx context.Context, flight chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	k, err := s.load(ctx)
	if err == nil {
		if old := s.keys.Load(); old == nil || !bytes.Equal(old.raw, k.raw) {
			s.keys.Store(k) // equal ones stay: verified tokens hang on them
		}
		s.fetched.Store(s.store.now().UnixNano())
	}
	s.mu.Lock()
	again := s.failed
	s.flight, s.failed = nil, err != nil
	s.mu.Unlock()
	close(flight)
	if err != nil && !again {
		s.store.log.Warn("keys for tokens can't be fetched, the last good ones stay", "uri", s.uri, "have", s.keys.Load() != nil, "error", err)
	} else if err == nil && again {
		s.store.log.Info("keys for tokens are fetched again", "uri", s.uri)
	}
}

func (s *Source) load(ctx context.Context) (*Keys, error) {
	body, err := s.store.fetch(ctx, s.uri)
	if err != nil {
		return nil, err
	}
	return ParseKeys(body)
}

// Store keeps the sources with a URI, so that policies that are replaced keep
// their keys. Create it with NewStore; Close waits for every fetch.
type Store struct {
	fetch Fetch
	now   func() time.Time
	log   *slog.Logger
	ctx   context.Context // ends with Close; the fetches', no request's
	stop  context.CancelFunc

	mu      sync.Mutex // guards the fields below
	sources map[string]*Source
	closed  bool
	running sync.WaitGroup
}

// NewStore makes a store. A nil clock is the time of day, a nil logger none.
func NewStore(fetch Fetch, now func() time.Time, log *slog.Logger) *Store {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{fetch: fetch, now: now, log: log, sources: make(map[string]*Source)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Source is the one for a URI and a timeout, the same every time.
func (s *Store) Source(uri string, timeout time.Duration) *Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := timeout.String() + " " + uri
	if s.sources[key] == nil {
		s.sources[key] = &Source{uri: uri, timeout: timeout, store: s}
	}
	return s.sources[key]
}

// Keep forgets all other sources and fetches the keys that were never fetched,
// without waiting for them.
func (s *Store) Keep(in []*Source) {
	s.mu.Lock()
	kept := make(map[*Source]bool, len(in))
	for _, one := range in {
		kept[one] = true
	}
	for key, one := range s.sources {
		if !kept[one] {
			delete(s.sources, key)
		}
	}
	s.mu.Unlock()
	for one := range kept {
		if one.Remote() && one.keys.Load() == nil {
			one.fetch(retryAfter)
		}
	}
}

// start runs f in the background unless the store is closed.
func (s *Store) start(f func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Go(func() { f(s.ctx) })
	return true
}

// Close ends all fetches and waits for them. Keys at hand stay usable.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
}
