package dashboards

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestWriteIsReadByGrafana(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with $dollar")
	boards := Generate(FromGraph(demoGraph()))
	for range 2 { // the second run replaces the first
		if err := Write(dir, boards); err != nil {
			t.Fatal(err)
		}
		if err := WriteDataSource(dir, "http://hub:15080/", "http://localhost:15080"); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "boards", "*"))
	if err != nil || len(files) != len(boards) {
		t.Errorf("%d files, %v, want %d boards and nothing else", len(files), err, len(boards))
	}
	for _, b := range boards {
		got, err := os.ReadFile(filepath.Join(dir, "boards", b.Slug+".json"))
		if err != nil || string(got) != encode(t, b) {
			t.Errorf("board %s is not what was generated: %v", b.Slug, err)
		}
	}
	var provider provisionedBoards
	decodeStrictly(t, filepath.Join(dir, providerFile), &provider)
	if got, want := provider.Providers[0].Options["path"], strings.ReplaceAll(filepath.Join(dir, "boards"), "$", "$$"); got != want {
		t.Errorf("path = %q, want %q", got, want)
	}
	var sources provisionedSources
	decodeStrictly(t, filepath.Join(dir, dataSourceFile), &sources)
	ds := sources.DataSources[0]
	if ds.UID != DataSourceUID || ds.Type != "prometheus" || ds.URL != "http://hub:15080" {
		t.Errorf("data source %+v", ds)
	}
	links := ds.JSONData["exemplarTraceIdDestinations"].([]any)[0].(map[string]any)
	if links["url"] != "http://localhost:15080/?request=$${__value.raw}" || links["name"] != "trace_id" {
		t.Errorf("exemplar link %v", links)
	}
}

func decodeStrictly(t *testing.T, path string, v any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%s: %v, %v, want a file that Grafana's user can read", path, info.Mode(), err)
	}
}

func TestWriteSaysWhatItCouldNotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, Generate(Inventory{})); err == nil || !strings.Contains(err.Error(), "write board mesh") {
		t.Errorf("got %v", err)
	}
	if err := WriteDataSource(file, "http://hub", ""); err == nil || !strings.Contains(err.Error(), "write provisioning") {
		t.Errorf("got %v", err)
	}
}

func TestInstructionsNameTheFilesAndTheHub(t *testing.T) {
	got := Instructions("/srv/boards", "http://127.0.0.1:15080/")
	for _, want := range []string{
		"data source (http://127.0.0.1:15080)", "GF_PATHS_PROVISIONING='/srv/boards/provisioning'", "-v '/srv/boards:/srv/boards:ro'",
		"apt-get install -y grafana", "brew install grafana", "http://localhost:3000/d/telemesh-mesh", "service account",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	for _, left := range []string{"DIR", "HUB"} {
		if strings.Contains(got, left) {
			t.Errorf("%s was left in:\n%s", left, got)
		}
	}
}
