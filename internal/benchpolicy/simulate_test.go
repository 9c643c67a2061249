package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemesh/telemesh/policy-check/lease"
)

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	s := scenario{limit: smallLimit, move: 10 * time.Second, horizon: lease.DefaultHorizon}
	first, err := simulate(s, 7)
	if err != nil {
		t.Fatal(err)
	}
	again, err := simulate(s, 7)
	if err != nil {
		t.Fatal(err)
	}
	opt := cmp.AllowUnexported(outcome{}, scenario{})
	if diff := cmp.Diff(first, again, opt); diff != "" {
		t.Error(diff)
	}
	if other, _ := simulate(s, 8); cmp.Equal(first, other, opt) {
		t.Error("another seed gave the same run")
	}
	if first.worstSliding > first.bound {
		t.Errorf("%v %% above the limit in a second, bound %v %%", first.worstSliding, first.bound)
	}
	if first.unused == 0 || first.unused > 25 {
		t.Errorf("%v %% unused", first.unused)
	}
}

func TestOutcome(t *testing.T) {
	r := newTally()
	// Second 0: 20 asked for, 12 of 10 admitted, all by one of two; second 1:
	// 8 asked for, 6 admitted.
	r.asked[0][0], r.asked[0][1] = 12, 8
	r.got[0][0] = 12
	r.asked[1][0] = 8
	r.got[1][0] = 6
	for i := range 12 {
		r.admitted[900+i]++
	}
	for i := range 6 {
		r.admitted[1300+i]++
	}
	got := r.outcome(10)
	want := outcome{
		over: 100 * 2. / 10 / 120, worstSecond: 20, worstSliding: 80, worst100ms: 1100,
		// 10 and 8 could have been admitted, of which 2 were not.
		unused: 100 * 2. / 18,
		// 5 and 5 are due: 7 too many and 5 too few, of twice 10.
		unfair: 60,
	}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
	if diff := cmp.Diff(want, got, near, cmp.AllowUnexported(outcome{}, scenario{})); diff != "" {
		t.Error(diff)
	}
}

func TestMaxMin(t *testing.T) {
	if got := maxMin([]float64{10, 1, 5, 5}, 13); !slices.Equal(got, []float64{4, 1, 4, 4}) {
		t.Errorf("got %v", got)
	}
}

func TestThePageTellsWhatIsMissed(t *testing.T) {
	r := newReport()
	r.Set("take_ns", 30, 10, 21)
	r.Set("unused_pct", 1.5)
	page := r.page()
	for _, want := range []string{
		"| take one credit | **21** ns | 10 to 30 | ≤ 20 | **missed** |",
		"unused | **1.5** % |  | ≤ 2 | met |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}
