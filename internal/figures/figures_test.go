package figures

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAReportIsWrittenAsItWasFound(t *testing.T) {
	r, dir := New(), t.TempDir()
	r.Set("take_ns", 30, 10, 21)
	r.Set("share", 0.51234)
	r.Set("rows", 2_000_074.3)
	r.Note("worst", []float64{1, 3}, func(v []float64) float64 { return v[1] })
	r.Quantiles("find", []float64{4, 1, 2, 3})
	all := []Figure{
		AtMost("take_ns", "take", "ns", 20), AtLeast("share", "share", "", 0.5), Free("rows", "rows", ""),
		AtMost("worst", "worst", "%", 3), AtLeast("find_p99_ms", "find", "ms", 5), AtMost("absent", "absent", "", 1),
	}
	page := r.Table(all)
	for _, want := range []string{
		"| take | **21** ns | 10 to 30 | ≤ 20 | **missed** |", "| share | **0.512**  |  | ≥ 0.5 | met |", "| rows | **2.000074e+06**  |  |  |  |",
		"| worst | **3** % | 1 to 3 | ≤ 3 | met |", "| find | **4** ms |  | ≥ 5 | **missed** |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
	if strings.Contains(page, "absent") {
		t.Errorf("what was not measured is on the page:\n%s", page)
	}
	if err := r.Write(dir, "all", page); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "all.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(b, &back); err != nil || back["take_ns"] != 21.0 || back["find_p50_ms"] != 3.0 || back["machine"] != r.Machine {
		t.Errorf("%v, %v", back, err)
	}
	if md, err := os.ReadFile(filepath.Join(dir, "all.md")); err != nil || string(md) != page {
		t.Errorf("the page is %q, %v", md, err)
	}
	if err := New().Write("", "nothing", ""); err != nil {
		t.Error(err)
	}
}

func TestMedianOfAnEvenNumberIsBetween(t *testing.T) {
	if m := Median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Errorf("median %v", m)
	}
}
