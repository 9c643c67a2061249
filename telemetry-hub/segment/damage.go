package segment

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
)

// Part of a segment that can be damaged, which says what the damage costs.
type Part string

// The parts. What is wrong with the index or the footer is repaired from the
// other; what is wrong with a column is lost.
const (
	PartColumn Part = "column" // the values of one column of one row group
	PartIndex  Part = "index"
	PartFooter Part = "footer"
)

// Damage is one place of a segment that is damaged.
type Damage struct {
	Part   Part
	Group  int    // row group, of a column
	Column string // its name in the file
	Err    error  // wraps ErrCorrupt, or is why it could not be read
}

func (d *Damage) Error() string { return d.Err.Error() }

// Unwrap gives the error in words.
func (d *Damage) Unwrap() error { return d.Err }

// Damages takes an error of this package apart into the places that it tells of.
// Those that are no Damage, as a file that cannot be read, are in others.
func Damages(err error) (list []*Damage, others []error) {
	var d *Damage
	joined, many := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil, nil
	case many:
		for _, e := range joined.Unwrap() {
			l, o := Damages(e)
			list, others = append(list, l...), append(others, o...)
		}
		return list, others
	case errors.As(err, &d):
		return []*Damage{d}, nil
	}
	return nil, []error{err}
}

func damagedFooter(err error) error { return damagedPart(PartFooter, err) }

func damagedIndex(err error) error { return damagedPart(PartIndex, err) }

// damagedPart says of each of the errors joined in err where it is.
func damagedPart(p Part, err error) error {
	if err == nil {
		return nil
	}
	joined, many := err.(interface{ Unwrap() []error })
	if !many {
		return &Damage{Part: p, Err: err}
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, damagedPart(p, e))
	}
	return errors.Join(errs...)
}

// damagedAtOpen is what Open found damaged.
func (s *Segment) damagedAtOpen() (errs []error) {
	for _, err := range s.damaged {
		errs = append(errs, damagedIndex(err))
	}
	return errs
}

// VerifySums reads all of the segment and compares it with its checksums: every
// part of the index, the footer, and every column of every row group; and that
// footer and index tell of the same. No value is decoded, so it is many times
// faster than Verify, and finds what a disk does to a file but not what a faulty
// writer had written. The error is as that of Verify.
func (s *Segment) VerifySums(ctx context.Context) error {
	errs := s.damagedAtOpen()
	for _, p := range s.header.parts {
		switch p.kind {
		case partSchema, partGroups, partFences, partServices: // Open has read them
		default:
			if _, err := s.part(p.kind); err != nil {
				errs = append(errs, damagedIndex(fmt.Errorf("segment %s: %w", s.name, err)))
			}
		}
	}
	meta, err := s.verifyEnds(ctx)
	if err != nil {
		errs = append(errs, damagedFooter(err))
	}
	for i := range s.header.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, err := s.groupData(i)
		if err != nil {
			continue // Open had it
		}
		if err := d.readAll(ctx); err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, d.sums()...)
		}
		if meta != nil {
			errs = append(errs, damagedFooter(d.verifyFooter(meta)))
		}
		d.release()
	}
	return errors.Join(errs...)
}

// sums compares every column that has been read with its checksum.
func (d *groupData) sums() (errs []error) {
	for leaf, c := range d.chunks {
		if crc32.Checksum(d.bytes(leaf), castagnoli) != c.sum {
			errs = append(errs, d.segment.corrupt(d.number, leaf))
		}
	}
	return errs
}
