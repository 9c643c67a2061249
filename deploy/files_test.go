// Package deploy holds no Go: its tests check the manifests beside them as
// far as that goes without the systems that they are for.
package deploy

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/dashboards"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
	yaml "go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the generated files")
	os.Exit(m.Run())
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// checkFlags fails for a flag that the binary does not have.
func checkFlags(t *testing.T, where, binary string, args []string) {
	t.Helper()
	known := map[string][]string{
		"mesh-hub":   {"http-address", "grpc-address", "data-dir", "policy-dir", "insecure-listen"},
		"mesh-proxy": {"service", "version", "namespace", "app-port", "hub", "inbound-address", "outbound-address", "admin-address", "state-dir"},
		"bookinfo":   {"listen", "version", "pod-name", "details-host", "reviews-host", "ratings-host", "fault"},
	}[binary]
	for _, arg := range args {
		name, ok := strings.CutPrefix(arg, "--")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if !slices.Contains(known, name) {
			t.Errorf("%s: %s has no flag --%s", where, binary, name)
		}
	}
}

func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  ".",
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: read(t, "compose.yaml")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeFollowsTheSpecification(t *testing.T) {
	p := loadCompose(t)
	if p.Name != "telemesh" {
		t.Errorf("project %q", p.Name)
	}
	for name, s := range p.Services {
		image := s.Image
		binary := strings.TrimSuffix(strings.TrimPrefix(image, "telemesh/"), ":dev")
		if binary != image {
			checkFlags(t, name, binary, s.Command)
			if s.Build == nil || !strings.Contains(string(read(t, "docker/Dockerfile")), " AS "+s.Build.Target+"\n") {
				t.Errorf("%s: the Dockerfile has no target for it", name)
			}
			if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
				t.Errorf("%s is not confined", name)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open beyond the loopback", name, port.Published)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
	}
}

// TestEveryApplicationJoinsItsSidecar holds the wiring that no schema knows:
// the application shares its sidecar's network, and the sidecar registers the
// host name that it really has.
func TestEveryApplicationJoinsItsSidecar(t *testing.T) {
	p := loadCompose(t)
	apps := []string{"productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1", "loadgen-v1"}
	for _, app := range apps {
		service, version, _ := strings.Cut(app, "-")
		a, sidecar := p.Services[app], p.Services[app+"-sidecar"]
		if a.NetworkMode != "service:"+app+"-sidecar" {
			t.Errorf("%s joins %q", app, a.NetworkMode)
		}
		if sidecar.Hostname != app {
			t.Errorf("%s-sidecar is called %q", app, sidecar.Hostname)
		}
		for _, want := range []string{"--service=" + service, "--version=" + version, "--hub=hub:15010", "--inbound-address=" + app + ":15006"} {
			if !slices.Contains(sidecar.Command, want) {
				t.Errorf("%s-sidecar lacks %s: %v", app, want, sidecar.Command)
			}
		}
		if a.Image == "telemesh/bookinfo:dev" && !slices.Equal(a.Command, []string{service, "--version=" + version}) {
			t.Errorf("%s runs %v", app, a.Command)
		}
	}
	if want := 2*len(apps) + 2; len(p.Services) != want {
		t.Errorf("%d services, want %d", len(p.Services), want)
	}
}

// unit is a systemd unit file: section, key, values in order.
type unit map[string]map[string][]string

// parseUnit reads the subset of systemd.syntax(7) that our units keep to: no
// continued lines, no quoting across lines.
func parseUnit(content string) (unit, error) {
	u, section := unit{}, ""
	for i, line := range strings.Split(content, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			section = strings.TrimSuffix(name, "]")
			u[section] = map[string][]string{}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section == "" || strings.HasSuffix(line, `\`) {
			return nil, fmt.Errorf("line %d: %q is no setting of a section", i+1, line)
		}
		u[section][key] = append(u[section][key], value)
	}
	return u, nil
}

func TestUnitsAreConfined(t *testing.T) {
	files, err := filepath.Glob("systemd/*.service")
	if err != nil || len(files) != 2 {
		t.Fatalf("units %v, %v", files, err)
	}
	for _, file := range files {
		u, err := parseUnit(string(read(t, file)))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for key, want := range map[string]string{
			"DynamicUser": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "NoNewPrivileges": "yes",
			"PrivateTmp": "yes", "CapabilityBoundingSet": "", "Restart": "on-failure",
		} {
			if got := u["Service"][key]; !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s=%v, want %q", file, key, got, want)
			}
		}
		command := strings.Fields(u["Service"]["ExecStart"][0])
		checkFlags(t, file, filepath.Base(command[0]), command[1:])
		checkVariables(t, file, u, command)
	}
}

// checkVariables fails for a variable of the command that nothing sets.
func checkVariables(t *testing.T, file string, u unit, command []string) {
	t.Helper()
	set := []string{"STATE_DIRECTORY"}
	if u["Service"]["ConfigurationDirectory"] != nil {
		set = append(set, "CONFIGURATION_DIRECTORY")
	}
	if u["Service"]["EnvironmentFile"] != nil {
		set = append(set, "SERVICE") // the one that has no default
	}
	for _, line := range u["Service"]["Environment"] {
		for _, pair := range strings.Fields(line) {
			name, _, _ := strings.Cut(pair, "=")
			set = append(set, name)
		}
	}
	for _, m := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(strings.Join(command, " "), -1) {
		if !slices.Contains(set, m[1]) {
			t.Errorf("%s: nothing sets %s", file, m[1])
		}
	}
}

// TestSystemdTakesTheUnits asks systemd itself, where there is one. The
// binaries need not be installed: /bin/true stands in for them.
func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Logf("systemd-analyze is not installed: the units are checked by TestUnitsAreConfined alone")
		return
	}
	files, err := filepath.Glob("systemd/*.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content := regexp.MustCompile(`(?m)^ExecStart=\S+`).ReplaceAll(read(t, file), []byte("ExecStart=/bin/true"))
		copied := filepath.Join(t.TempDir(), filepath.Base(file))
		if err := os.WriteFile(copied, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"verify", "--man=no", copied},
			// systemd's own measure of what a service could still do, 0 to 100.
			{"security", "--offline=true", "--no-pager", "--threshold=20", copied},
		} {
			out, err := exec.CommandContext(context.WithoutCancel(t.Context()), analyze, args...).CombinedOutput()
			if err != nil || (args[0] == "verify" && len(bytes.TrimSpace(out)) > 0) {
				t.Errorf("systemd-analyze %s %s: %v\n%s", args[0], file, err, out)
			}
		}
	}
}

// generatedGrafana is what package dashboards makes of an empty inventory,
// for the addresses of the compose file. The service and workload boards are
// pushed to it once there are services.
func generatedGrafana(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if err := dashboards.Write(dir, dashboards.Generate(dashboards.Inventory{})); err != nil {
		t.Fatal(err)
	}
	if err := dashboards.WriteDataSource(dir, "http://hub:15080", "http://localhost:15080"); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, path := range []string{"boards/mesh.json", "boards/hub.json", "provisioning/datasources/telemesh.yaml", "provisioning/dashboards/telemesh.yaml"} {
		content := read(t, filepath.Join(dir, path))
		// In the container the boards are mounted elsewhere.
		files[path] = bytes.ReplaceAll(content, []byte(filepath.Join(dir, "boards")), []byte("/etc/grafana/boards"))
	}
	return files
}

func TestGrafanaFilesAreAsGenerated(t *testing.T) {
	for path, want := range generatedGrafana(t) {
		path = filepath.Join("grafana", path)
		if updating() {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(want), string(read(t, path))); diff != "" {
			t.Errorf("%s is out of date; run go test ./deploy -update (-generated +file):\n%s", path, diff)
		}
	}
	mounted := slices.ContainsFunc(loadCompose(t).Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == "/etc/grafana/boards"
	})
	if !mounted {
		t.Error("the boards are not mounted where the provider looks for them")
	}
}

// documents splits a YAML stream, each document as JSON-ready values.
func documents(t *testing.T, path string) []map[string]any {
	t.Helper()
	var docs []map[string]any
	d := yaml.NewDecoder(bytes.NewReader(read(t, path)))
	for {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		docs = append(docs, doc)
	}
}
