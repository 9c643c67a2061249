// Package folder keeps in force what the YAML files of a directory define:
// traffic policies (package files), rate limits (package ratelimit). A file with
// an error is refused whole and what it said before stays in force.
package folder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
)

// DefaultInterval is how often the directory is looked at. Polling works on
// every file system and with the symbolic links of Kubernetes' mounts.
const DefaultInterval = time.Second

// Settle is how long a new version must stay the same before it counts. Whoever
// writes a file truncates it first, and an empty file is a valid one: without
// the second look what it defines would be out of force for a moment.
const Settle = 50 * time.Millisecond

// Format is what the files of a directory hold.
type Format[T any] struct {
	// Noun is one definition in messages, "policy", and Nouns several.
	Noun, Nouns string
	// Parse reads a file: what it defines without a problem, and all problems.
	Parse func(file string, data []byte) ([]T, []*policy.ParseError)
	// ID is what no two files may define. Line is where a definition begins.
	ID   func(T) string
	Line func(T) int
}

// Loaded is a definition in force and the file that has it.
type Loaded[T any] struct {
	Value T
	File  string
}

// Snapshot is the state of the directory at one moment. It is the caller's.
type Snapshot[T any] struct {
	// Loaded is what is in force, ordered by ID.
	Loaded []Loaded[T]
	// Errors of the files as they are now, ordered by file and line.
	Errors []*policy.ParseError
	// Accepted and Refused count the versions of files that were read.
	Accepted, Refused uint64
}

// Directory reads *.yaml and *.yml files of one directory, not of those below
// it. It is safe for concurrent use.
type Directory[T any] struct {
	dir    string
	format Format[T]
	log    *slog.Logger
	tick   Ticker

	loadMu   sync.Mutex                   // one load at a time; guards the field below
	unproven map[string][sha256.Size]byte // versions seen once, by file

	mu          sync.Mutex // guards the fields below
	files       map[string]*file[T]
	owners      map[string]string // the file of each definition in force, by ID
	snapshot    Snapshot[T]
	subscribers map[chan struct{}]struct{}
}

// file is what is known of one file.
type file[T any] struct {
	sum     [sha256.Size]byte
	missing bool // it could not be read
	// values in force: of the last version without an error.
	values []T
	errors []*policy.ParseError // of the version that is there
}

// Ticker paces Run; stop releases it.
type Ticker func(time.Duration) (c <-chan time.Time, stop func())

// New makes a directory of which nothing was read yet. A nil logger logs
// nothing, a nil ticker is the real one.
func New[T any](dir string, format Format[T], log *slog.Logger, tick Ticker) *Directory[T] {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if tick == nil {
		tick = realTicker
	}
	return &Directory[T]{
		dir: dir, format: format, log: log, tick: tick,
		files: make(map[string]*file[T]), subscribers: make(map[chan struct{}]struct{}),
		unproven: make(map[string][sha256.Size]byte),
	}
}

func (d *Directory[T]) defines(f *file[T], id string) bool {
	return slices.ContainsFunc(f.values, func(v T) bool { return d.format.ID(v) == id })
}

func realTicker(interval time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(interval)
	return t.C, t.Stop
}

// Run loads the directory and again whenever its files change, until ctx ends.
// A new version counts once two looks in a row have seen it. Errors in files are
// in the snapshot and the log and don't end it.
func (d *Directory[T]) Run(ctx context.Context) error {
	ticks, stop := d.tick(DefaultInterval)
	defer stop()
	var said string
	for first := true; ; first = false {
		// Errors in files are logged where a new version is read. That the
		// directory itself can't be read is said once.
		_, again, err := d.load(first)
		if err != nil && err.Error() != said {
			d.log.Warn(d.format.Noun+" directory can't be read, "+d.format.Nouns+" stay as they are", "error", err)
			said = err.Error()
		} else if err == nil {
			said = ""
		}
		next := ticks
		if again {
			next = time.After(Settle)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
	}
}

// Load reads the directory once and takes it as it is. It returns every problem joined, *ParseErrors
// among them; the definitions without one are in force nevertheless.
func (d *Directory[T]) Load() error {
	snapshot, _, err := d.load(true)
	errs := []error{err}
	for _, e := range snapshot.Errors {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// Snapshot returns the present state.
func (d *Directory[T]) Snapshot() Snapshot[T] {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshot.clone()
}

func (s Snapshot[T]) clone() Snapshot[T] {
	s.Loaded, s.Errors = slices.Clone(s.Loaded), slices.Clone(s.Errors)
	return s
}

// Subscribe returns a channel that is signalled after each change of the
// snapshot; several changes may be one signal. The function ends it.
func (d *Directory[T]) Subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.subscribers[ch] = struct{}{}
	return ch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subscribers, ch)
	}
}

// load reads what changed: at once, or only what has settled and reports whether
// something is left for another look. Its error is that of the directory, not of
// files.
func (d *Directory[T]) load(atOnce bool) (s Snapshot[T], again bool, err error) {
	d.loadMu.Lock()
	defer d.loadMu.Unlock()
	names, err := d.list()
	if err != nil {
		return d.Snapshot(), false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := false
	for name := range d.unproven {
		if !slices.Contains(names, name) {
			delete(d.unproven, name)
		}
	}
	for name := range d.files {
		if !slices.Contains(names, name) {
			d.log.Info(d.format.Noun+" file is gone", "file", name)
			delete(d.files, name)
			changed = true
		}
	}
	for _, name := range names {
		changed = d.read(name, atOnce) || changed
	}
	if changed {
		d.publish(names)
	}
	return d.snapshot.clone(), len(d.unproven) > 0, nil
}

// list returns the names of the files, sorted.
func (d *Directory[T]) list() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.format.Nouns, err)
	}
	var names []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// read takes in one file and tells whether it changed.
func (d *Directory[T]) read(name string, atOnce bool) (changed bool) {
	f := d.files[name]
	data, err := os.ReadFile(filepath.Join(d.dir, name))
	switch {
	case err != nil && f != nil && f.missing:
		return false
	case err != nil:
		if f == nil {
			f = &file[T]{}
			d.files[name] = f
		}
		f.missing = true
		f.errors = []*policy.ParseError{{File: name, Line: 1, Column: 1, Reason: fmt.Sprintf("read file: %v", err)}}
	default:
		sum := sha256.Sum256(data)
		if f != nil && !f.missing && f.sum == sum {
			delete(d.unproven, name)
			return false
		}
		if seen, ok := d.unproven[name]; !atOnce && (!ok || seen != sum) {
			d.unproven[name] = sum
			return false
		}
		delete(d.unproven, name)
		if f == nil {
			f = &file[T]{}
			d.files[name] = f
		}
		var values []T
		values, f.errors = d.format.Parse(name, data)
		f.sum, f.missing = sum, false
		if len(f.errors) == 0 {
			f.values = values
		}
	}
	if len(f.errors) == 0 {
		d.snapshot.Accepted++
		d.log.Info(d.format.Noun+" file accepted", "file", name, d.format.Nouns, len(f.values))
		return true
	}
	d.snapshot.Refused++
	d.log.Warn(d.format.Noun+" file refused, its last good "+d.format.Nouns+" stay in force", "file", name, "error", f.errors[0], "errors", len(f.errors), "in_force", len(f.values))
	return true
}

// publish rebuilds the snapshot and signals subscribers. Of two files that
// define the same thing the one that already had it in force keeps it, and at
// the start the one whose name sorts first.
func (d *Directory[T]) publish(names []string) {
	s := Snapshot[T]{Accepted: d.snapshot.Accepted, Refused: d.snapshot.Refused}
	owners := make(map[string]string)
	for _, name := range names {
		f := d.files[name]
		if f == nil {
			continue // new and not settled yet
		}
		s.Errors = append(s.Errors, f.errors...)
		for _, v := range f.values {
			id := d.format.ID(v)
			if first := d.owner(id, owners[id]); first != "" && first != name {
				s.Errors = append(s.Errors, &policy.ParseError{File: name, Line: d.format.Line(v), Column: 1,
					Reason: fmt.Sprintf("%s %s is already defined in %s", d.format.Noun, id, first)})
				continue
			}
			owners[id] = name
			s.Loaded = append(s.Loaded, Loaded[T]{Value: v, File: name})
		}
	}
	d.owners = owners
	slices.SortFunc(s.Loaded, func(a, b Loaded[T]) int { return cmp.Compare(d.format.ID(a.Value), d.format.ID(b.Value)) })
	d.snapshot = s
	for ch := range d.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// owner is the file that has a definition in force and still defines it, else the
// file that was met first this time.
func (d *Directory[T]) owner(id, met string) string {
	if name := d.owners[id]; name != "" && d.files[name] != nil && d.defines(d.files[name], id) {
		return name
	}
	return met
}
