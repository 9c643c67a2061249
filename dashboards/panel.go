package dashboards

import "fmt"

// Units, by Grafana's names.
const (
	unitRequests = "reqps"
	unitShare    = "percentunit"
	unitMillis   = "ms"
	unitSeconds  = "s"
	unitBytes    = "bytes"
	unitRate     = "Bps"
	unitCount    = "short"
	unitPerSec   = "cps"
	unitOps      = "ops"
	unitConns    = "conps"
)

// Sizes in Grafana's grid of 24 columns.
const (
	gridColumns = 24
	heightStat  = 4
	heightGraph = 8
	heightTable = 9
)

// target is one query of a panel.
type target struct {
	expr, legend string
	exemplars    bool
	// mayBeEmpty is Query.MayBeEmpty.
	mayBeEmpty string
}

// panel is what all panels share. Width is in grid columns.
type panel struct {
	title, about string
	unit         string
	width        int
	targets      []target
	max          float64 // 0 means open
	steps        []step  // thresholds, none for a plain panel
	stacked      bool
	below        bool              // the number can be negative
	colors       map[string]string // by legend
}

// step colours values from its bound upwards.
type step struct {
	from  float64
	color string
}

func okUntil(warn, bad float64) []step {
	return []step{{0, "green"}, {warn, "orange"}, {bad, "red"}}
}

func badUntil(good float64) []step { return []step{{0, "red"}, {good, "green"}} }

func thresholdsOf(steps []step) *thresholds {
	if len(steps) == 0 {
		return nil
	}
	t := &thresholds{Mode: "absolute"}
	for i, s := range steps {
		ts := thresholdStep{Color: s.color}
		if i > 0 {
			from := s.from
			ts.Value = &from
		}
		t.Steps = append(t.Steps, ts)
	}
	return t
}

// build makes what all kinds of panels have.
func (p panel) build(kind string, height int, format string, instant bool) *panelJSON {
	zero := 0.0
	defaults := fieldDefaults{Unit: p.unit, Min: &zero, Thresholds: thresholdsOf(p.steps)}
	if p.below {
		defaults.Min = nil
	}
	if p.max > 0 {
		defaults.Max = &p.max
	}
	out := &panelJSON{
		Type: kind, Title: p.title, Description: p.about, Datasource: boardDataSource(),
		GridPos:     gridPos{W: p.width, H: height},
		FieldConfig: &fieldConfig{Defaults: defaults, Overrides: []override{}},
	}
	for i, t := range p.targets {
		out.Targets = append(out.Targets, targetJSON{
			RefID: refID(i), Datasource: boardDataSource(), EditorMode: "code", Expr: t.expr, LegendFormat: t.legend,
			Format: format, Instant: instant, Range: !instant, Exemplar: t.exemplars,
		})
		out.queries = append(out.queries, Query{Panel: p.title, Expr: t.expr, MayBeEmpty: t.mayBeEmpty})
	}
	return out
}

func refID(i int) string { return string(rune('A' + i)) }

// graph draws lines over time.
func (p panel) graph() *panelJSON {
	out := p.build("timeseries", heightGraph, "time_series", false)
	stacking, fill := "none", 8
	if p.stacked {
		stacking, fill = "normal", 40
	}
	d := &out.FieldConfig.Defaults
	d.Color = map[string]any{"mode": "palette-classic"}
	d.Custom = map[string]any{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "spanNulls": false,
		"stacking": map[string]any{"mode": stacking, "group": "A"},
	}
	if p.unit == unitShare {
		d.Custom["axisSoftMax"] = 0.01 // an error share of nothing lies on the floor, not in the middle
	}
	out.Options = map[string]any{
		"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	for _, t := range p.targets {
		if color, ok := p.colors[t.legend]; ok {
			out.FieldConfig.Overrides = append(out.FieldConfig.Overrides, colorOf(t.legend, color))
		}
	}
	return out
}

func colorOf(name, color string) override {
	return override{
		Matcher:    matcher{ID: "byName", Options: name},
		Properties: []property{{ID: "color", Value: map[string]any{"mode": "fixed", "fixedColor": color}}},
	}
}

// stat shows the newest number with its recent past behind it.
func (p panel) stat() *panelJSON {
	out := p.build("stat", heightStat, "time_series", false)
	d := &out.FieldConfig.Defaults
	d.NoValue = "–"
	d.Color = map[string]any{"mode": "thresholds"}
	if len(p.steps) == 0 {
		d.Color = map[string]any{"mode": "fixed", "fixedColor": "blue"}
	}
	out.Options = map[string]any{
		"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "value", "wideLayout": true,
		"reduceOptions": reduceLast(),
	}
	return out
}

func reduceLast() map[string]any {
	return map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}
}

// gauge shows how full something is.
func (p panel) gauge() *panelJSON {
	out := p.build("gauge", heightGraph, "time_series", false)
	out.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	out.Options = map[string]any{
		"showThresholdLabels": false, "showThresholdMarkers": true, "orientation": "auto",
		"reduceOptions": reduceLast(),
	}
	return out
}

// bars compares things by their newest number.
func (p panel) bars() *panelJSON {
	out := p.build("bargauge", heightGraph, "time_series", false)
	out.FieldConfig.Defaults.Color = map[string]any{"mode": "continuous-GrYlRd"}
	out.Options = map[string]any{
		"displayMode": "gradient", "orientation": "horizontal", "showUnfilled": true, "valueMode": "color",
		"reduceOptions": reduceLast(),
	}
	return out
}

// heatmap draws a histogram's buckets over time.
func (p panel) heatmap() *panelJSON {
	out := p.build("heatmap", heightGraph, "heatmap", false)
	out.FieldConfig.Defaults.Min = nil
	out.Options = map[string]any{
		"calculate": false, "cellGap": 1,
		"color":        map[string]any{"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
		"exemplars":    map[string]any{"color": "rgba(41,82,163,0.9)"},
		"filterValues": map[string]any{"le": 1e-9},
		"legend":       map[string]any{"show": true},
		"rowsFrame":    map[string]any{"layout": "auto"},
		"tooltip":      map[string]any{"mode": "single", "showColorScale": false, "yHistogram": true},
		"yAxis":        map[string]any{"axisPlacement": "left", "reverse": false, "unit": p.unit},
	}
	return out
}

// column is one number of a table: the query that gives it and how it looks.
type column struct {
	title, unit, expr string
	steps             []step
	bar               bool // draw the number as a bar in its cell
}

// table shows one line per combination of labels, keyed by their titles in
// order, and one column per query. The first column sorts it.
func (p panel) table(keys []labelColumn, columns []column, mayBeEmpty string) *panelJSON {
	for _, c := range columns {
		p.targets = append(p.targets, target{expr: c.expr, mayBeEmpty: mayBeEmpty})
	}
	out := p.build("table", heightTable, "table", true)
	out.FieldConfig.Defaults.Min = nil
	out.FieldConfig.Defaults.NoValue = "–"
	out.FieldConfig.Defaults.Custom = map[string]any{"align": "auto", "filterable": true, "cellOptions": map[string]any{"type": "auto"}}

	rename, index := map[string]any{}, map[string]any{}
	for i, k := range keys {
		rename[k.label], index[k.label] = k.title, i
	}
	for i, c := range columns {
		// Grafana names the value of one query "Value" and of several "Value #A".
		name := "Value"
		if len(columns) > 1 {
			name = fmt.Sprintf("Value #%s", refID(i))
		}
		rename[name], index[name] = c.title, len(keys)+i
		out.FieldConfig.Overrides = append(out.FieldConfig.Overrides, c.override())
	}
	out.Transformations = []transformation{
		{ID: "merge", Options: map[string]any{}},
		{ID: "organize", Options: map[string]any{
			"excludeByName": map[string]any{"Time": true}, "indexByName": index, "renameByName": rename,
		}},
	}
	out.Options = map[string]any{
		"showHeader": true, "cellHeight": "sm",
		"sortBy": []map[string]any{{"displayName": columns[0].title, "desc": true}},
	}
	return out
}

// labelColumn is a label shown as a column.
type labelColumn struct{ label, title string }

func labelsOf(columns []labelColumn) []string {
	var names []string
	for _, c := range columns {
		names = append(names, c.label)
	}
	return names
}

func (c column) override() override {
	o := override{
		Matcher:    matcher{ID: "byName", Options: c.title},
		Properties: []property{{ID: "unit", Value: c.unit}},
	}
	if len(c.steps) > 0 {
		o.Properties = append(o.Properties,
			property{ID: "thresholds", Value: thresholdsOf(c.steps)},
			property{ID: "custom.cellOptions", Value: map[string]any{"type": "color-text"}})
	}
	if c.bar {
		o.Properties = append(o.Properties,
			property{ID: "min", Value: 0},
			property{ID: "custom.cellOptions", Value: map[string]any{"type": "gauge", "mode": "basic"}})
	}
	return o
}

// text shows Markdown.
func text(title, markdown string, width, height int) *panelJSON {
	return &panelJSON{
		Type: "text", Title: title, GridPos: gridPos{W: width, H: height},
		Options: map[string]any{"mode": "markdown", "content": markdown},
	}
}

// row is a heading; what follows it belongs to it.
func row(title string) *panelJSON {
	collapsed := false
	return &panelJSON{
		Type: "row", Title: title, GridPos: gridPos{W: gridColumns, H: 1},
		Collapsed: &collapsed, Panels: &[]*panelJSON{},
	}
}

// place gives panels their IDs and their places: left to right, and down to a
// new line when the next does not fit, as tall as the tallest of the last.
func place(panels []*panelJSON) {
	x, y, tallest := 0, 0, 0
	for i, p := range panels {
		if x+p.GridPos.W > gridColumns {
			x, y, tallest = 0, y+tallest, 0
		}
		p.ID, p.GridPos.X, p.GridPos.Y = i+1, x, y
		x += p.GridPos.W
		tallest = max(tallest, p.GridPos.H)
	}
}
