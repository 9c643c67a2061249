package policy

import "testing"

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, problems := Parse("p.yaml", []byte(valid)); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
