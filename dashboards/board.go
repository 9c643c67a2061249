package dashboards

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// The data source that boards open with. A board works with any other source
// of the same series, chosen in its first variable.
const (
	DataSourceUID  = "telemesh-hub"
	DataSourceName = "telemesh hub"
	dataSourceType = "prometheus"
	dataSourceVar  = "datasource"
)

// Tags that boards are found by.
const (
	tagAll      = "telemesh"
	tagMesh     = "telemesh-mesh"
	tagService  = "telemesh-service"
	tagWorkload = "telemesh-workload"
	tagHub      = "telemesh-hub"
)

const (
	meshBoardUID = "telemesh-mesh"
	hubBoardUID  = "telemesh-hub-self"
)

// Board is one Grafana dashboard. Its fields are for reading; Generate makes
// it.
type Board struct {
	// UID is the same for the same subject on every run and every machine, at
	// most 40 characters as Grafana demands.
	UID, Title string
	// Slug is unique among boards generated together and fit for a file name.
	Slug string
	Tags []string

	description string
	variables   []variable
	links       []boardLink
	panels      []*panelJSON
}

// Generate makes the boards of a mesh: the overview, one for each service, one
// for each workload, and the hub's own. The same inventory in any order gives
// the same boards, byte for byte.
func Generate(inv Inventory) []Board {
	inv = inv.sorted()
	boards := []Board{meshBoard()}
	for _, s := range inv.Services {
		boards = append(boards, serviceBoard(s, inv))
	}
	for _, w := range inv.Workloads {
		boards = append(boards, workloadBoard(w, inv))
	}
	boards = append(boards, hubBoard())
	taken := map[string]bool{}
	for i := range boards {
		b := &boards[i]
		// Names that differ only in odd characters give the same slug.
		if taken[b.Slug] {
			b.Slug += "-" + b.UID[strings.LastIndexByte(b.UID, '-')+1:]
		}
		taken[b.Slug] = true
		place(b.panels)
	}
	return boards
}

// uidOf hashes a subject: readable names can be longer than Grafana's 40
// characters, and cutting them would let two boards meet.
func uidOf(kind, namespace, name string) string {
	sum := sha256.Sum256([]byte(namespace + "\x00" + name))
	return "telemesh-" + kind + "-" + hex.EncodeToString(sum[:8])
}

func slugOf(parts ...string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, strings.Join(parts, "-"))
}

// Path is the board's path in any Grafana.
func (b Board) Path() string { return "/d/" + b.UID + "/" + b.Slug }

// JSON is the board as Grafana's classic JSON, indented and ending in a new
// line.
func (b Board) JSON() ([]byte, error) {
	out, err := json.MarshalIndent(boardJSON{
		UID: b.UID, Title: b.Title, Description: b.description, Tags: b.Tags,
		SchemaVersion: schemaVersion, Editable: true, GraphTooltip: 1,
		Refresh: "10s", Time: timeRange{From: "now-30m", To: "now"}, Timezone: "browser",
		Links:       b.links,
		Templating:  templating{List: b.variables},
		Annotations: annotations{List: []any{}},
		Panels:      b.panels,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode board %s: %w", b.Slug, err)
	}
	return append(out, '\n'), nil
}

// Queries lists every expression of the board, those of its variables
// excepted, in the order of its panels.
func (b Board) Queries() []Query {
	values := map[string]string{}
	for _, v := range b.variables {
		if v.IncludeAll {
			values[v.Name] = v.AllValue
			continue
		}
		values[v.Name] = fmt.Sprint(v.Current.Value)
	}
	var all []Query
	for _, p := range b.panels {
		for _, q := range p.queries {
			q.Board, q.variables = b.Title, values
			all = append(all, q)
		}
	}
	return all
}

func boardDataSource() *dataSourceRef {
	return &dataSourceRef{Type: dataSourceType, UID: "${" + dataSourceVar + "}"}
}

func dataSourceVariable() variable {
	return variable{
		Name: dataSourceVar, Label: "Data source", Description: "The hub, or any Prometheus that has its series.",
		Type: "datasource", Query: dataSourceType, Refresh: 1,
		Current: currentValue{Text: DataSourceName, Value: DataSourceUID},
	}
}

// navigation leads from any board to all others.
func navigation() []boardLink {
	dropdown := func(title, tag string) boardLink {
		return boardLink{Type: "dashboards", Title: title, Tags: []string{tag}, AsDropdown: true, Icon: "external link", KeepTime: true}
	}
	return []boardLink{
		linkTo("Mesh", meshBoardUID, "The whole mesh"),
		dropdown("Services", tagService), dropdown("Workloads", tagWorkload),
		linkTo("Hub", hubBoardUID, "The hub's own health"),
	}
}

// linkTo needs no host: Grafana puts its own root before a path.
func linkTo(title, uid, tooltip string) boardLink {
	return boardLink{Type: "link", Title: title, Tags: []string{}, URL: "/d/" + uid, Icon: "dashboard", KeepTime: true, Tooltip: tooltip}
}
