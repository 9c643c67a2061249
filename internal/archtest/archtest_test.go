package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/telemesh/telemesh/"

// TestNothingLinksWhatItMustNot looks at everything that is linked, however far
// away it is imported.
func TestNothingLinksWhatItMustNot(t *testing.T) {
	// A sidecar is small (budget 25 MB) because it has no server side in it.
	const envoy = "github.com/envoyproxy/go-control-plane"
	serverSide := []string{
		module + "telemetry-hub", module + "dashboards", module + "topology-ui",
		"github.com/prometheus/prometheus",
		"k8s.io", "sigs.k8s.io",
		"go.opentelemetry.io/collector", "github.com/open-telemetry",
		envoy,
	}
	for _, tc := range []struct {
		name  string
		from  []string
		never []string
	}{
		{"the sidecar has no server side", []string{"./proxy/...", "./cmd/mesh-proxy"}, serverSide},
		{"the policy library knows neither end", []string{"./policy-check/..."}, append([]string{module + "proxy"}, slices.DeleteFunc(slices.Clone(serverSide), func(p string) bool { return p == envoy })...)},
		{"the hub knows no sidecar", []string{"./telemetry-hub/..."}, []string{module + "proxy", module + "cmd"}},
		{"boards read the inventory through the API", []string{"./dashboards/..."}, []string{
			module + "proxy", module + "telemetry-hub", module + "policy-check", "github.com/prometheus/prometheus", "k8s.io",
		}},
		{"the contracts know neither end", []string{"./api/..."}, []string{
			module + "proxy", module + "telemetry-hub", module + "policy-check", module + "dashboards", module + "cmd",
		}},
		{"the example is an ordinary program without a mesh", []string{"./examples/..."}, []string{
			module + "proxy", module + "telemetry-hub", module + "policy-check", module + "dashboards", module + "api",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			roots, packages := load(t, tc.from...)
			for _, p := range packages {
				if !within(p.ImportPath, tc.never) {
					continue
				}
				t.Errorf("%s must not link %s, but does:\n  %s\nmove what is shared to api or internal, or pass it in as a constructor argument (docs/adr, CONTRIBUTING.md)",
					strings.Join(tc.from, " and "), p.ImportPath, strings.Join(chain(roots, packages, p.ImportPath), "\n  imports "))
			}
		})
	}
}

// TestVocabularyStopsAtItsAdapter looks at direct imports: one package speaks a
// foreign vocabulary, the others call it.
func TestVocabularyStopsAtItsAdapter(t *testing.T) {
	_, packages := load(t, "./...")
	for _, tc := range []struct {
		name, imported string
		by             []string // who may
		in             []string // among whom the rule holds; empty for all
	}{
		{"only boards speak Grafana's client", "github.com/grafana-tools/sdk", []string{module + "dashboards"}, nil},
		{"only the hub speaks Prometheus' server", "github.com/prometheus/prometheus", []string{module + "telemetry-hub"}, nil},
		{"only one package speaks objstore", "github.com/thanos-io/objstore", []string{module + "telemetry-hub/bucket"}, nil},
		{"only the side ports and the fetcher of keys speak net/http", "net/http", []string{module + "proxy/admin", module + "proxy/jwks"}, []string{module + "proxy/"}},
		{"two packages of policy speak Envoy", "github.com/envoyproxy/go-control-plane", []string{module + "policy-check/ratelimit", module + "policy-check/extauthz"}, []string{module + "policy-check"}},
		{"policy is decided without net/http", "net/http", nil, []string{module + "policy-check"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, p := range packages {
				if !strings.HasPrefix(p.ImportPath, module) || within(p.ImportPath, tc.by) || len(tc.in) > 0 && !within(p.ImportPath, tc.in) {
					continue
				}
				for _, path := range p.Imports {
					if path == tc.imported || strings.HasPrefix(path, tc.imported+"/") && tc.imported != "net/http" {
						t.Errorf("%s imports %s: call the package that adapts it instead (%s)", p.ImportPath, path, strings.Join(tc.by, ", "))
					}
				}
			}
		})
	}
}

// pkg is what the tests need of go list's answer.
type pkg struct {
	ImportPath string
	Imports    []string
	DepOnly    bool // not named by a pattern
}

// load lists the packages of the patterns, relative to the repository's root,
// and everything they link. Roots are the paths of those that were named.
func load(t *testing.T, patterns ...string) (roots []string, packages []pkg) {
	t.Helper()
	touchSources(t)
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-json=ImportPath,Imports,DepOnly"}, patterns...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v\n%s", strings.Join(patterns, " "), err, &stderr)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read go list's answer: %v", err)
		}
		packages = append(packages, p)
		if !p.DepOnly {
			roots = append(roots, p.ImportPath)
		}
	}
	if len(roots) == 0 {
		t.Fatalf("go list -deps %s names no package: the folder has moved, so correct the rule", strings.Join(patterns, " "))
	}
	return roots, packages
}

// touchSources reads every folder of Go code. The go command remembers what a
// test itself has read, not what a program that it ran has read: without this
// an answer from before an import was added would be served from the cache.
func touchSources(t *testing.T) {
	t.Helper()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case path == root:
			return nil
		case strings.HasPrefix(name, "."), name == "bin", name == "node_modules", name == "dist", name == "testdata":
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the source folders: %v", err)
	}
}

// within reports whether path is one of the trees or lies below one. A tree
// that ends in a slash does not hold its own root.
func within(path string, trees []string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return path == tree || strings.HasPrefix(path, strings.TrimSuffix(tree, "/")+"/")
	})
}

// chain is the shortest way from a root to a package.
func chain(roots []string, packages []pkg, to string) []string {
	imports := make(map[string][]string, len(packages))
	for _, p := range packages {
		imports[p.ImportPath] = p.Imports
	}
	from := make(map[string]string) // who imports it, on the shortest way
	queue := slices.Clone(roots)
	for _, root := range roots {
		from[root] = ""
	}
	for len(queue) > 0 && queue[0] != to {
		p := queue[0]
		queue = queue[1:]
		for _, next := range imports[p] {
			if _, seen := from[next]; !seen {
				from[next] = p
				queue = append(queue, next)
			}
		}
	}
	way := []string{to}
	for p := from[to]; p != ""; p = from[p] {
		way = append(way, p)
	}
	slices.Reverse(way)
	return way
}

func TestChainIsTheShortestWay(t *testing.T) {
	packages := []pkg{
		{ImportPath: "a", Imports: []string{"b", "c"}},
		{ImportPath: "b", Imports: []string{"d"}},
		{ImportPath: "c", Imports: []string{"e"}},
		{ImportPath: "d", Imports: []string{"e"}},
		{ImportPath: "e"},
	}
	got := chain([]string{"a"}, packages, "e")
	if want := []string{"a", "c", "e"}; !slices.Equal(got, want) {
		t.Errorf("chain = %v, want %v", got, want)
	}
}

func TestWithinIsByFolder(t *testing.T) {
	trees := []string{"m/proxy", "m/hub/"}
	for path, want := range map[string]bool{
		"m/proxy": true, "m/proxy/route": true, "m/proxyless": false, "m/hub": false, "m/hub/store": true,
	} {
		if got := within(path, trees); got != want {
			t.Errorf("within(%q) = %v, want %v", path, got, want)
		}
	}
}
