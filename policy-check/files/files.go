// Package files keeps the policies of a directory in force: the hub's source of
// policies without Kubernetes. See package folder for how a directory is read.
package files

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/authz"
	"github.com/telemesh/telemesh/policy-check/folder"
)

// Loaded is a policy in force and the file that defines it.
type Loaded struct {
	Policy *policy.TrafficPolicy
	File   string
}

// LoadedAccess is one of Istio's access policies in force and the file that
// defines it.
type LoadedAccess struct {
	Resource *authz.Resource
	File     string
}

// Snapshot is the state of the directory at one moment. It is the caller's.
type Snapshot struct {
	// Policies in force, ordered by ID.
	Policies []Loaded
	// Access are Istio's access policies in force, ordered by ID.
	Access []LoadedAccess
	// Errors of the files as they are now, ordered by file and line.
	Errors []*policy.ParseError
	// Accepted and Refused count the versions of files that were read.
	Accepted, Refused uint64
}

// object is what a document defines: one of the two.
type object struct {
	policy *policy.TrafficPolicy
	access *authz.Resource
}

func (o object) id() string {
	if o.access != nil {
		return o.access.ID()
	}
	return o.policy.ID()
}

func (o object) line() int {
	if o.access != nil {
		return o.access.Line
	}
	return o.policy.Line
}

// parse reads the policies of both kinds that a file holds.
func parse(file string, data []byte) (all []object, problems []*policy.ParseError) {
	policies, problems := policy.Parse(file, data)
	access, more := authz.Parse(file, data)
	for _, p := range policies {
		all = append(all, object{policy: p})
	}
	for _, r := range access {
		all = append(all, object{access: r})
	}
	problems = append(problems, more...)
	slices.SortStableFunc(problems, func(a, b *policy.ParseError) int { return cmp.Compare(a.Line, b.Line) })
	return all, problems
}

// Directory reads *.yaml and *.yml files of one directory, not of those below
// it. It is safe for concurrent use.
type Directory struct {
	*folder.Directory[object]
}

// Option changes how a directory is watched.
type Option func(*folder.Ticker)

// WithTicker replaces the ticker that paces Run; stop releases it.
func WithTicker(tick func(time.Duration) (c <-chan time.Time, stop func())) Option {
	return func(t *folder.Ticker) { *t = tick }
}

// NewDirectory makes a directory of which nothing was read yet.
func NewDirectory(dir string, log *slog.Logger, opts ...Option) *Directory {
	var tick folder.Ticker
	for _, o := range opts {
		o(&tick)
	}
	return &Directory{folder.New(dir, folder.Format[object]{
		Noun: "policy", Nouns: "policies", Parse: parse,
		ID: object.id, Line: object.line,
	}, log, tick)}
}

// Snapshot returns the present state.
func (d *Directory) Snapshot() Snapshot {
	s := d.Directory.Snapshot()
	out := Snapshot{Errors: s.Errors, Accepted: s.Accepted, Refused: s.Refused}
	for _, l := range s.Loaded {
		if r := l.Value.access; r != nil {
			out.Access = append(out.Access, LoadedAccess{Resource: r, File: l.File})
			continue
		}
		out.Policies = append(out.Policies, Loaded{Policy: l.Value.policy, File: l.File})
	}
	return out
}
