package dashboards

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	folderUID   = "telemesh"
	folderTitle = "telemesh"

	boardsDir      = "boards"
	providerFile   = "provisioning/dashboards/telemesh.yaml"
	dataSourceFile = "provisioning/datasources/telemesh.yaml"

	// exemplarLabel is how exemplars name the trace (OpenMetrics, section
	// "Exemplars", and every OpenTelemetry exporter).
	exemplarLabel = "trace_id"

	// sampleInterval is the widest gap between samples of the hub's series
	// that boards are made for. Grafana takes a rate over four of them.
	sampleInterval = "15s"
)

// Provisioning files, after "Provision Grafana" of Grafana's manual. Grafana
// replaces environment variables in them, hence escapeDollar.
type provisionedBoards struct {
	APIVersion int             `yaml:"apiVersion"`
	Providers  []boardProvider `yaml:"providers"`
}

type boardProvider struct {
	Name                  string            `yaml:"name"`
	OrgID                 int               `yaml:"orgId"`
	Folder                string            `yaml:"folder"`
	FolderUID             string            `yaml:"folderUid"`
	Type                  string            `yaml:"type"`
	DisableDeletion       bool              `yaml:"disableDeletion"`
	UpdateIntervalSeconds int               `yaml:"updateIntervalSeconds"`
	AllowUIUpdates        bool              `yaml:"allowUiUpdates"`
	Options               map[string]string `yaml:"options"`
}

type provisionedSources struct {
	APIVersion  int              `yaml:"apiVersion"`
	DataSources []sourceProvider `yaml:"datasources"`
}

type sourceProvider struct {
	Name     string         `yaml:"name"`
	UID      string         `yaml:"uid"`
	Type     string         `yaml:"type"`
	Access   string         `yaml:"access"`
	URL      string         `yaml:"url"`
	JSONData map[string]any `yaml:"jsonData"`
}

// Write puts one file per board into dir/boards and the provisioning that
// makes Grafana read them into dir/provisioning. Files are replaced whole, so
// a running Grafana never reads half of one. Boards of an earlier run whose
// subject is gone stay: their past may still be wanted.
func Write(dir string, boards []Board) error {
	root, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("write boards to %s: %w", dir, err)
	}
	for _, b := range boards {
		content, err := b.JSON()
		if err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(root, boardsDir, b.Slug+".json"), content); err != nil {
			return fmt.Errorf("write board %s: %w", b.Slug, err)
		}
	}
	return writeYAML(filepath.Join(root, providerFile), provisionedBoards{APIVersion: 1, Providers: []boardProvider{{
		Name: "telemesh", OrgID: 1, Folder: folderTitle, FolderUID: folderUID, Type: "file",
		UpdateIntervalSeconds: 10, AllowUIUpdates: true,
		Options: map[string]string{"path": escapeDollar(filepath.Join(root, boardsDir))},
	}}})
}

// WriteDataSource puts the provisioning of the hub as a data source into
// dir/provisioning. HubURL is where Grafana finds the hub, uiURL where
// browsers find its UI; empty means the same.
func WriteDataSource(dir, hubURL, uiURL string) error {
	if uiURL == "" {
		uiURL = hubURL
	}
	data := sourceOptions(uiURL)
	for _, d := range data["exemplarTraceIdDestinations"].([]map[string]any) {
		d["url"] = escapeDollar(d["url"].(string))
	}
	return writeYAML(filepath.Join(dir, dataSourceFile), provisionedSources{APIVersion: 1, DataSources: []sourceProvider{{
		Name: DataSourceName, UID: DataSourceUID, Type: dataSourceType, Access: "proxy",
		URL: escapeDollar(trimSlash(hubURL)), JSONData: data,
	}}})
}

// sourceOptions are the data source's own settings. The exemplar's link opens
// the request in the hub's UI.
func sourceOptions(uiURL string) map[string]any {
	return map[string]any{
		"httpMethod":     "POST",
		"timeInterval":   sampleInterval,
		"prometheusType": "Prometheus",
		"manageAlerts":   false,
		"exemplarTraceIdDestinations": []map[string]any{{
			"name": exemplarLabel, "url": trimSlash(uiURL) + "/?request=${__value.raw}", "urlDisplayLabel": "Open in telemesh",
		}},
	}
}

func trimSlash(url string) string { return strings.TrimRight(url, "/") }

// escapeDollar keeps Grafana from taking a dollar sign for a variable.
func escapeDollar(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func writeYAML(path string, v any) error {
	content, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := replaceFile(path, content); err != nil {
		return fmt.Errorf("write provisioning: %w", err)
	}
	return nil
}

// replaceFile writes a file beside path and moves it there. Grafana runs as
// another user, so the file is readable for all.
func replaceFile(path string, content []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".telemesh-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
