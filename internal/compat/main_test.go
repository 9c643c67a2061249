package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCompareNamesWhatDiffers(t *testing.T) {
	before := known{records: 5, requests: map[string]float64{"source 200": 3}}
	good := func() known {
		return known{records: 205, requests: map[string]float64{"source 200": 98, "source 500": 5, "destination 200": 95, "destination 500": 5}}
	}
	if err := compare(before, good(), 100); err != nil {
		t.Errorf("what agrees differs: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*known)
		want   string
	}{
		"records": {func(k *known) { k.records-- }, "199 records, want 200"},
		"refused": {func(k *known) { k.rejected = 2 }, "2 batches refused"},
		"counts":  {func(k *known) { k.requests["destination 500"]++ }, "istio_requests_total of destination 500: 6, want 5"},
	} {
		after := good()
		c.change(&after)
		if err := compare(before, after, 100); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestOutputKeepsTheLastLines(t *testing.T) {
	var o output
	for _, l := range []string{"a\n", "b\n", "c\n"} {
		if _, err := o.Write([]byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.tail(2); got != strings.Join([]string{"b", "c"}, "\n") {
		t.Errorf("tail = %q", got)
	}
}
