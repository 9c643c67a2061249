// Package files keeps the policies of a directory in force: the hub's source of
// policies without Kubernetes. See package folder for how a directory is read.
package files

import (
	"log/slog"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/folder"
)

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
	*folder.Directory[*policy.TrafficPolicy]
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
	return &Directory{folder.New(dir, folder.Format[*policy.TrafficPolicy]{
		Noun: "policy", Nouns: "policies", Parse: policy.Parse,
		ID:   (*policy.TrafficPolicy).ID,
		Line: func(p *policy.TrafficPolicy) int { return p.Line },
	}, log, tick)}
}

// Snapshot returns the present state.
func (d *Directory) Snapshot() Snapshot {
	s := d.Directory.Snapshot()
	out := Snapshot{Errors: s.Errors, Accepted: s.Accepted, Refused: s.Refused}
	for _, l := range s.Loaded {
		out.Policies = append(out.Policies, Loaded{Policy: l.Value, File: l.File})
	}
	return out
}
