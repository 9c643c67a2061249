package exchange

import (
	"slices"
	"testing"
)

func TestFieldsKeepTheirOrderAndOneOfEach(t *testing.T) {
	var f Fields
	f.Del("a")
	f.Set("a", "1")
	f.Set("b", "2")
	f.Set("c", "3")
	f.Set("A", "4")
	f.Del("b")
	if want := []Field{{"a", "4"}, {"c", "3"}}; !slices.Equal(f.All(), want) {
		t.Errorf("fields %v, want %v", f.All(), want)
	}
	if f.Get("C") != "3" || f.Get("b") != "" {
		t.Errorf("c is %q, b is %q", f.Get("C"), f.Get("b"))
	}
}
