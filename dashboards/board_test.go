package dashboards

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"

	"github.com/google/go-cmp/cmp"
)

func TestFromGraph(t *testing.T) {
	got := FromGraph(demoGraph()).sorted()
	want := Inventory{
		Services: []Service{{"default", "details"}, {"default", "productpage"}, {"default", "ratings"}, {"default", "reviews"}},
		Workloads: []Workload{
			{"default", "details-v1", "details", true, false},
			{"default", "loadgen-v1", "loadgen", false, true},
			{"default", "productpage-v1", "productpage", true, true},
			{"default", "ratings-v1", "ratings", true, false},
			{"default", "reviews-v1", "reviews", true, false},
			{"default", "reviews-v2", "reviews", true, true},
			{"default", "reviews-v3", "reviews", true, true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
	if got := FromGraph(&topologyv1.Graph{}); len(Generate(got)) != 2 {
		t.Errorf("an empty mesh has boards %v, want the mesh's and the hub's", Generate(got))
	}
}

func TestGenerateDoesNotDependOnOrder(t *testing.T) {
	inv := FromGraph(demoGraph())
	twisted := Inventory{Services: slices.Clone(inv.Services), Workloads: append(slices.Clone(inv.Workloads), inv.Workloads...)}
	slices.Reverse(twisted.Services)
	slices.Reverse(twisted.Workloads)
	a, b := Generate(inv), Generate(twisted)
	if len(a) != len(b) {
		t.Fatalf("%d boards and %d", len(a), len(b))
	}
	for i := range a {
		if got, want := encode(t, b[i]), encode(t, a[i]); got != want {
			t.Errorf("%s differs", a[i].Title)
		}
	}
}

func encode(t *testing.T, b Board) string {
	t.Helper()
	content, err := b.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// awkward has names that collide once they are made fit for files and URLs.
func awkward() Inventory {
	long := strings.Repeat("a-very-long-name", 8)
	return Inventory{
		Services: []Service{
			{"a-b", "c"}, {"a", "b-c"}, {"shop", "cart.v1"}, {"shop", "cart-v1"}, {"shop", long}, {"shop", long + "2"}, {"", `quo"te`},
		},
		Workloads: []Workload{{Namespace: "a-b", Name: "c", Service: "c"}, {Namespace: "a", Name: "b-c"}, {Namespace: "ns", Name: "$dollar{{x}}"}},
	}
}

func TestUIDsAndSlugsAreUniqueAndFit(t *testing.T) {
	uid, slug := regexp.MustCompile(`^[a-zA-Z0-9_-]{1,40}$`), regexp.MustCompile(`^[a-z0-9-]+$`)
	uids, slugs := map[string]bool{}, map[string]bool{}
	for _, b := range Generate(awkward()) {
		if !uid.MatchString(b.UID) || uids[b.UID] {
			t.Errorf("%s: UID %q is unfit or taken", b.Title, b.UID)
		}
		if !slug.MatchString(b.Slug) || slugs[b.Slug] {
			t.Errorf("%s: slug %q is unfit or taken", b.Title, b.Slug)
		}
		uids[b.UID], slugs[b.Slug] = true, true
	}
}

// loaded is the part of a board's JSON that the checks below read.
type loaded struct {
	UID           string
	SchemaVersion int
	Links         []struct{ Type, Title, URL string }
	Templating    struct {
		List []struct{ Name, Type, Description string }
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ Type, UID string }
		GridPos                  struct{ H, W, X, Y int }
		FieldConfig              struct {
			Defaults  struct{ Unit string }
			Overrides []struct {
				Properties []struct{ ID string }
			}
		}
		Targets []struct {
			RefID, Expr string
			Exemplar    bool
			Datasource  struct{ Type, UID string }
		}
	}
}

func TestBoardsAreWellFormed(t *testing.T) {
	all := append(Generate(FromGraph(demoGraph())), Generate(awkward())...)
	uids := map[string]bool{}
	for _, b := range all {
		uids[b.UID] = true
	}
	for _, b := range all {
		t.Run(b.Slug, func(t *testing.T) {
			var l loaded
			if err := json.Unmarshal([]byte(encode(t, b)), &l); err != nil {
				t.Fatal(err)
			}
			if l.SchemaVersion < 39 {
				t.Errorf("schema %d", l.SchemaVersion)
			}
			checkHead(t, l, uids)
			checkPanels(t, l)
			checkGrid(t, l)
		})
	}
}

func checkHead(t *testing.T, l loaded, uids map[string]bool) {
	t.Helper()
	if len(l.Templating.List) == 0 || l.Templating.List[0].Type != "datasource" || l.Templating.List[0].Name != dataSourceVar {
		t.Errorf("the first variable is not the data source")
	}
	for _, v := range l.Templating.List {
		if v.Description == "" {
			t.Errorf("variable %s has no description", v.Name)
		}
	}
	for _, link := range l.Links {
		if uid, ok := strings.CutPrefix(link.URL, "/d/"); link.Type == "link" && (!ok || !uids[uid]) {
			t.Errorf("link %q leads nowhere: %s", link.Title, link.URL)
		}
	}
}

func checkPanels(t *testing.T, l loaded) {
	t.Helper()
	ids, exemplars := map[int]bool{}, 0
	for _, p := range l.Panels {
		if ids[p.ID] {
			t.Errorf("%s: panel ID %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" || p.Type == "text" {
			continue
		}
		unit := p.FieldConfig.Defaults.Unit != ""
		for _, o := range p.FieldConfig.Overrides {
			unit = unit || slices.ContainsFunc(o.Properties, func(p struct{ ID string }) bool { return p.ID == "unit" })
		}
		if !unit || p.Description == "" || p.Title == "" {
			t.Errorf("%s: no unit, description or title", p.Title)
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: no query, or not of the data source variable", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.Datasource.Type != "prometheus" {
				t.Errorf("%s: query %s is not of the data source variable", p.Title, target.RefID)
			}
			if target.Exemplar {
				exemplars++
			}
		}
	}
	if exemplars == 0 && l.UID != hubBoardUID {
		t.Error("no panel shows exemplars")
	}
}

func checkGrid(t *testing.T, l loaded) {
	t.Helper()
	taken := map[string]string{}
	for _, p := range l.Panels {
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > gridColumns {
			t.Errorf("%s: outside the grid: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				cell := fmt.Sprint(x, ",", y)
				if other, ok := taken[cell]; ok {
					t.Fatalf("%s overlaps %s", p.Title, other)
				}
				taken[cell] = p.Title
			}
		}
	}
}

// TestFirstScreen holds the order of the golden signals: numbers first, and
// traffic, errors, latency and saturation before anything has to be scrolled
// (about 20 grid rows).
func TestFirstScreen(t *testing.T) {
	for _, b := range Generate(FromGraph(demoGraph())) {
		if b.UID == hubBoardUID {
			continue
		}
		for _, title := range []string{"Requests", "Error share", "Latency p95", "In flight", "Traffic", "Errors", "Latency", "Saturation"} {
			i := slices.IndexFunc(b.panels, func(p *panelJSON) bool { return p.Title == title })
			if i < 0 || b.panels[i].GridPos.Y+b.panels[i].GridPos.H > 20 {
				t.Errorf("%s: %q is not on the first screen", b.Title, title)
			}
		}
	}
}

// update is go test's flag that rewrites the golden files.
func update() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

func TestGolden(t *testing.T) {
	inv := Inventory{
		Services:  []Service{{"default", "reviews"}},
		Workloads: []Workload{{Namespace: "default", Name: "reviews-v2", Service: "reviews", Serves: true, Calls: true}},
	}
	for _, b := range Generate(inv) {
		path := filepath.Join("testdata", "golden", b.Slug+".json")
		got := encode(t, b)
		if update() {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got); run go test ./dashboards -update and read the change:\n%s", path, diff)
		}
	}
}
