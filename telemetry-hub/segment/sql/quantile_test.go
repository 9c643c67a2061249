package sql

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

// TestQuantilesGoOverToAHistogram when the query holds as many values as it may.
func TestQuantilesGoOverToAHistogram(t *testing.T) {
	m := &budget{limit: 1 << 30, exact: maxExact - 1000}
	q := &quantiles{of: KindInt, q: 0.9, m: m}
	q.grow(2)
	x, groups := &vector{kind: KindInt}, []int32{}
	for i := range int64(5000) {
		x.ints, groups = append(x.ints, 1000+i*i), append(groups, 1)
	}
	if err := q.add(x, groups); err != nil {
		t.Fatal(err)
	}
	exact := slices.Clone(x.ints)[4499]
	if got := q.value(1).Int; q.rough != 1 || math.Abs(float64(got-exact)) > 0.0625*float64(exact) || got == exact {
		t.Errorf("%d of a histogram in %d groups, exact %d", got, q.rough, exact)
	}
	if got := q.value(0); got.Kind != KindNull {
		t.Errorf("of no values: %v", got)
	}
	if m.exact > maxExact {
		t.Errorf("%d values are held", m.exact)
	}
	m.exact = maxExact
	if err := q.add(&vector{kind: KindInt, ints: []int64{-1}}, []int32{0}); !errors.Is(err, errRough) {
		t.Errorf("a negative number: %v", err)
	}
}

func TestMemoryAndOverflowEndAQuery(t *testing.T) {
	segments := openTest(t, sealTest(t, 1, 9_000))
	var memory *MemoryError
	for text, want := range map[string]func(error) bool{
		"select span_id, count(*) from records group by 1":                  func(err error) bool { return errors.As(err, &memory) },
		"select count(distinct span_id || path || user_agent) from records": func(err error) bool { return errors.As(err, &memory) },
		"select * from records":                                     func(err error) bool { return errors.As(err, &memory) },
		"select * from records order by start desc limit 10":        func(err error) bool { return err == nil },
		"select * from records limit 10":                            func(err error) bool { return err == nil },
		"select sum(duration * 1000000000) from records":            func(err error) bool { return errors.Is(err, errOverflow) },
		"select max(duration * 9000000000000) from records":         func(err error) bool { return errors.Is(err, errOverflow) },
		"select sum(duration::double * 9000000000000) from records": func(err error) bool { return err == nil },
		"select cast(path as bigint) from records":                  func(err error) bool { return err != nil },
	} {
		q, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(context.Background(), q, segments, Options{Memory: 1 << 20})
		if !want(err) {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil && q.Limit > 0 && len(r.Rows) != int(q.Limit) {
			t.Errorf("%s: %d rows", text, len(r.Rows))
		}
	}
}
