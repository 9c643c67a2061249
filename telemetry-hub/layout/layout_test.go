package layout

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

func parse(edges string) Graph {
	var g Graph
	for _, line := range strings.Fields(edges) {
		ends := strings.Split(line, ">")
		for _, n := range ends {
			if !slices.Contains(g.Nodes, n) {
				g.Nodes = append(g.Nodes, n)
			}
		}
		if len(ends) == 2 {
			g.Edges = append(g.Edges, [2]string{ends[0], ends[1]})
		}
	}
	return g
}

const bookinfo = "unknown>productpage productpage>details productpage>reviews-v1 productpage>reviews-v2 productpage>reviews-v3 reviews-v2>ratings reviews-v3>ratings"

func TestArrange(t *testing.T) {
	for name, edges := range map[string]string{
		"bookinfo": bookinfo,
		"cyclic":   "in>a a>b b>c c>a c>out b>b x>y y>x",
		"lonely":   "a b c d e f g h>i",
		"empty":    "",
	} {
		t.Run(name, func(t *testing.T) {
			g := parse(edges)
			points := Arrange(g)
			var b strings.Builder
			for _, n := range slices.Sorted(slices.Values(g.Nodes)) {
				fmt.Fprintf(&b, "%s %.0f %.0f\n", n, points[n].X, points[n].Y)
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("layout (-want +got); rewrite with -update:\n%s", diff)
			}
		})
	}
}

func drawGraph(t *rapid.T, label string) Graph {
	name := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("n", rapid.IntRange(0, 25).Draw(t, "n")) })
	g := Graph{Nodes: rapid.SliceOfDistinct(name, rapid.ID[string]).Draw(t, label+" nodes")}
	if len(g.Nodes) == 0 {
		return g
	}
	node := rapid.SampledFrom(g.Nodes)
	for range rapid.IntRange(0, 40).Draw(t, label+" edges") {
		g.Edges = append(g.Edges, [2]string{node.Draw(t, "from"), node.Draw(t, "to")})
	}
	return g
}

// apart fails when two nodes (160 by 56 units) overlap.
func apart(t *rapid.T, g Graph, points map[string]Point) {
	t.Helper()
	for i, a := range g.Nodes {
		for _, b := range g.Nodes[:i] {
			if p, q := points[a], points[b]; math.Abs(p.X-q.X) < 160 && math.Abs(p.Y-q.Y) < 56 {
				t.Fatalf("%s at %v and %s at %v overlap", a, p, b, q)
			}
		}
	}
}

func TestTheSameGraphGivesTheSamePicture(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGraph(t, "")
		want := Arrange(g)
		apart(t, g, want)
		shuffled := Graph{Nodes: rapid.Permutation(g.Nodes).Draw(t, "nodes"), Edges: rapid.Permutation(g.Edges).Draw(t, "edges")}
		if diff := cmp.Diff(want, Arrange(shuffled)); diff != "" {
			t.Fatalf("the order of nodes or edges changes the picture:\n%s", diff)
		}
	})
}

func newLayout(t interface{ Fatal(...any) }, file string, now *time.Time) *Layout {
	l, err := New(file, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestASettledNodeNeverMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		l := newLayout(t, "", &now)
		first := drawGraph(t, "first")
		l.Place(first)
		now = now.Add(youth)
		at := l.Place(first)
		settled := len(first.Edges) > 0
		for range 3 {
			g := drawGraph(t, "next")
			points := l.Place(g)
			apart(t, g, points)
			if !settled {
				return
			}
			for n, p := range points {
				if old, known := at[n]; known && old != p {
					t.Fatalf("%s moved from %v to %v", n, old, p)
				}
				at[n] = p
			}
		}
	})
}

func TestAYoungGraphIsArrangedAsAWhole(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLayout(t, "", &now)
	g := parse(bookinfo)
	for n := range g.Edges {
		now = now.Add(time.Second)
		l.Place(Graph{Nodes: g.Nodes, Edges: g.Edges[:n+1]})
	}
	if diff := cmp.Diff(Arrange(g), l.Place(g)); diff != "" {
		t.Errorf("edges that came one by one (-whole +got):\n%s", diff)
	}
	// As many nodes and edges as before, but others.
	other := parse("a>b c>d e>f g>h a>c c>e e>g")
	other.Nodes = other.Nodes[:len(g.Nodes)]
	if diff := cmp.Diff(Arrange(other), l.Place(other)); diff != "" {
		t.Errorf("another graph of the same size (-arranged +got):\n%s", diff)
	}
}

func TestNewNodesStandBehindTheirCallers(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLayout(t, "", &now)
	l.Tidy(parse("a>b"))
	p := l.Place(parse("a>b b>z z>y y>x before>a"))
	for _, pair := range [][2]string{{"before", "a"}, {"b", "z"}, {"z", "y"}, {"y", "x"}} {
		if p[pair[1]].X-p[pair[0]].X != LayerGap {
			t.Errorf("%s at %v is not one layer before %s at %v", pair[0], p[pair[0]], pair[1], p[pair[1]])
		}
	}
}

func TestPlacesOutliveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "layout.json")
	now := time.Unix(1000, 0)
	l := newLayout(t, file, &now)
	g := parse(bookinfo)
	l.Place(g)
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a graph that may still be arranged afresh was kept")
	}
	now = now.Add(youth)
	want := l.Place(g)
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	grown := parse(bookinfo + " a>unknown")
	got := newLayout(t, file, &now).Place(grown)
	for n, p := range want {
		if got[n] != p {
			t.Errorf("%s moved from %v to %v", n, p, got[n])
		}
	}
}

func TestADamagedFileMeansANewArrangement(t *testing.T) {
	for _, content := range []string{"", "{", "[]", "null", `{"a":3}`} {
		file := filepath.Join(t.TempDir(), "layout.json")
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := New(file, time.Now)
		if err == nil && content != "null" {
			t.Errorf("%q: no error", content)
		}
		g := parse(bookinfo)
		if diff := cmp.Diff(Arrange(g), l.Place(g)); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", content, diff)
		}
	}
}

func TestPlacesOfGoneNodesAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLayout(t, "", &now)
	l.Tidy(parse("a>b"))
	for i := range maxIdle + 10 {
		l.points[fmt.Sprint("gone", i)] = Point{Y: float64(i) * RowGap}
	}
	l.Place(parse("a>b b>c"))
	if len(l.points) != 3 {
		t.Errorf("%d places are kept, want 3", len(l.points))
	}
}
