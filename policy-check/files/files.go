// Package files keeps the policies of a directory in force: the hub's source of
// policies without Kubernetes. A file with an error is refused whole and what it
// said before stays in force.
package files

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

// settle is how long a new version must stay the same before it counts. Whoever
// writes a file truncates it first, and an empty file is a valid one: without
// the second look its policies would be out of force for a moment.
const settle = 50 * time.Millisecond

// Loaded is a policy in force and the file that defines it.
type Loaded struct {
	Policy *policy.TrafficPolicy
	File   string
}

// Snapshot is the state of the directory at one moment. It is the caller's.
type Snapshot struct {
	// Policies in force, ordered by ID.
	Policies []Loaded
	// Errors of the files as they are now, ordered by file and line.
	Errors []*policy.ParseError
	// Accepted and Refused count the versions of files that were read.
	Accepted, Refused uint64
}

// Directory reads *.yaml and *.yml files of one directory, not of those below
// it. It is safe for concurrent use.
type Directory struct {
	dir  string
	log  *slog.Logger
	tick func(time.Duration) (<-chan time.Time, func())

	loadMu   sync.Mutex                   // one load at a time; guards the field below
	unproven map[string][sha256.Size]byte // versions seen once, by file

	mu          sync.Mutex // guards the fields below
	files       map[string]*file
	owners      map[string]string // the file of each policy in force, by ID
	snapshot    Snapshot
	subscribers map[chan struct{}]struct{}
}

// file is what is known of one file.
type file struct {
	sum     [sha256.Size]byte
	missing bool // it could not be read
	// policies in force: of the last version without an error.
	policies []*policy.TrafficPolicy
	errors   []*policy.ParseError // of the version that is there
}

func (f *file) defines(id string) bool {
	return slices.ContainsFunc(f.policies, func(p *policy.TrafficPolicy) bool { return p.ID() == id })
}

// Option changes how a directory is watched.
type Option func(*Directory)

// WithTicker replaces the ticker that paces Run; stop releases it.
func WithTicker(tick func(time.Duration) (c <-chan time.Time, stop func())) Option {
	return func(d *Directory) { d.tick = tick }
}

// NewDirectory makes a directory of which nothing was read yet.
func NewDirectory(dir string, log *slog.Logger, opts ...Option) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{
		dir: dir, log: log, tick: realTicker,
		files: make(map[string]*file), subscribers: make(map[chan struct{}]struct{}),
		unproven: make(map[string][sha256.Size]byte),
	}
	for _, o := range opts {
		o(d)
	}
	return d
}

func realTicker(interval time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(interval)
	return t.C, t.Stop
}

// Run loads the directory and again whenever its files change, until ctx ends.
// A new version counts once two looks in a row have seen it. Errors in files are
// in the snapshot and the log and don't end it.
func (d *Directory) Run(ctx context.Context) error {
	ticks, stop := d.tick(DefaultInterval)
	defer stop()
	var said string
	for first := true; ; first = false {
		// Errors in policies are logged where a new version is read. That the
		// directory itself can't be read is said once.
		_, again, err := d.load(first)
		if err != nil && err.Error() != said {
			d.log.Warn("policy directory can't be read, policies stay as they are", "error", err)
			said = err.Error()
		} else if err == nil {
			said = ""
		}
		next := ticks
		if again {
			next = time.After(settle)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
	}
}

// Load reads the directory once and takes it as it is. It returns every problem joined, *ParseErrors
// among them; the policies without one are in force nevertheless.
func (d *Directory) Load() error {
	snapshot, _, err := d.load(true)
	errs := []error{err}
	for _, e := range snapshot.Errors {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// Snapshot returns the present state.
func (d *Directory) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshot.clone()
}

func (s Snapshot) clone() Snapshot {
	s.Policies, s.Errors = slices.Clone(s.Policies), slices.Clone(s.Errors)
	return s
}

// Subscribe returns a channel that is signalled after each change of the
// snapshot; several changes may be one signal. The function ends it.
func (d *Directory) Subscribe() (<-chan struct{}, func()) {
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
func (d *Directory) load(atOnce bool) (s Snapshot, again bool, err error) {
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
			d.log.Info("policy file is gone", "file", name)
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

// list returns the names of the policy files, sorted.
func (d *Directory) list() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
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
func (d *Directory) read(name string, atOnce bool) (changed bool) {
	f := d.files[name]
	data, err := os.ReadFile(filepath.Join(d.dir, name))
	switch {
	case err != nil && f != nil && f.missing:
		return false
	case err != nil:
		if f == nil {
			f = &file{}
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
			f = &file{}
			d.files[name] = f
		}
		var ps []*policy.TrafficPolicy
		ps, f.errors = policy.Parse(name, data)
		f.sum, f.missing = sum, false
		if len(f.errors) == 0 {
			f.policies = ps
		}
	}
	if len(f.errors) == 0 {
		d.snapshot.Accepted++
		d.log.Info("policy file accepted", "file", name, "policies", len(f.policies))
		return true
	}
	d.snapshot.Refused++
	d.log.Warn("policy file refused, its last good policies stay in force", "file", name, "error", f.errors[0], "errors", len(f.errors), "in_force", len(f.policies))
	return true
}

// publish rebuilds the snapshot and signals subscribers. Of two files that
// define the same policy the one that already had it in force keeps it, and at
// the start the one whose name sorts first.
func (d *Directory) publish(names []string) {
	s := Snapshot{Accepted: d.snapshot.Accepted, Refused: d.snapshot.Refused}
	owners := make(map[string]string)
	for _, name := range names {
		f := d.files[name]
		if f == nil {
			continue // new and not settled yet
		}
		s.Errors = append(s.Errors, f.errors...)
		for _, p := range f.policies {
			id := p.ID()
			if first := d.owner(id, owners[id]); first != "" && first != name {
				s.Errors = append(s.Errors, &policy.ParseError{File: name, Line: p.Line, Column: 1,
					Reason: fmt.Sprintf("policy %s is already defined in %s", id, first)})
				continue
			}
			owners[id] = name
			s.Policies = append(s.Policies, Loaded{Policy: p, File: name})
		}
	}
	d.owners = owners
	slices.SortFunc(s.Policies, func(a, b Loaded) int { return cmp.Compare(a.Policy.ID(), b.Policy.ID()) })
	d.snapshot = s
	for ch := range d.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// owner is the file that has a policy in force and still defines it, else the
// file that was met first this time.
func (d *Directory) owner(id, met string) string {
	if name := d.owners[id]; name != "" && d.files[name] != nil && d.files[name].defines(id) {
		return name
	}
	return met
}
