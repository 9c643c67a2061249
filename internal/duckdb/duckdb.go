// Package duckdb asks DuckDB in tests: it shares no code with what writes and
// queries segments here, so what both say is so.
package duckdb

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Ask answers queries, by name, into a map or struct of lists of rows. A row is
// an object of its columns; integers of 64 bits are texts, as query.mjs says. A
// query that fails ends the test. Where DuckDB is not installed the test is
// skipped, or fails if make has said that the tools are there.
func Ask(t testing.TB, queries map[string]string, into any) {
	t.Helper()
	in, err := json.Marshal(queries)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "query.mjs")
	cmd.Dir, cmd.Stdin = installed(t), bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("DuckDB: %v\n%s", err, &stderr)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("read DuckDB's answer: %v\n%s", err, out)
	}
}

// installed is the folder with query.mjs and what it needs.
func installed(t testing.TB) string {
	t.Helper()
	folder := filepath.Join(root(t), "tools", "duckdb")
	for _, name := range []string{"query.mjs", "package-lock.json", "node_modules/@duckdb/node-api"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			if os.Getenv("TELEMESH_TEST_TOOLS") == "" {
				t.Skip("DuckDB is not installed: scripts/install-test-tools.sh installs it")
			}
			t.Fatalf("DuckDB should be installed: %v; run scripts/install-test-tools.sh and see its message", err)
		}
	}
	return folder
}

// root is the repository's folder: tests run in their package's.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("no go.mod in this folder or above: run the test inside the repository")
		}
		dir = above
	}
}
