package main

import (
	"bufio"
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGeneratedTypesAreCurrent(t *testing.T) {
	committed, err := os.ReadFile("../../topology-ui/src/api/types_gen.ts")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	generate(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), b.String()); diff != "" {
		t.Errorf("types_gen.ts is not what internal/tsgen prints; generate it again (-committed +generated):\n%s", diff)
	}
}
