package dashboards

// The part of Grafana's classic dashboard model that the boards use, written
// afresh because the structs of grafana-tools/sdk end in 2022: they know no
// exemplars, no gauge panel and no data source references.
//
// Source: grafana/grafana kinds/dashboard/dashboard_kind.cue, schema 41.

const schemaVersion = 41

type boardJSON struct {
	UID           string       `json:"uid"`
	Title         string       `json:"title"`
	Description   string       `json:"description"`
	Tags          []string     `json:"tags"`
	SchemaVersion int          `json:"schemaVersion"`
	Editable      bool         `json:"editable"`
	GraphTooltip  int          `json:"graphTooltip"` // 1: one crosshair on all panels
	Refresh       string       `json:"refresh"`
	Time          timeRange    `json:"time"`
	Timezone      string       `json:"timezone"`
	Links         []boardLink  `json:"links"`
	Templating    templating   `json:"templating"`
	Annotations   annotations  `json:"annotations"`
	Panels        []*panelJSON `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type annotations struct {
	List []any `json:"list"`
}

type dataSourceRef struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type variable struct {
	Name        string         `json:"name"`
	Label       string         `json:"label"`
	Description string         `json:"description"`
	Type        string         `json:"type"`
	Query       any            `json:"query"`
	Datasource  *dataSourceRef `json:"datasource,omitempty"`
	Current     currentValue   `json:"current"`
	IncludeAll  bool           `json:"includeAll"`
	AllValue    string         `json:"allValue,omitempty"`
	Multi       bool           `json:"multi"`
	Refresh     int            `json:"refresh"` // 1 on load, 2 on change of the time range
	Sort        int            `json:"sort"`    // 1 alphabetical
	Regex       string         `json:"regex"`
	Hide        int            `json:"hide"`
}

type currentValue struct {
	Text  any `json:"text"`
	Value any `json:"value"`
}

// boardLink is a dropdown of boards (type dashboards) or one link.
type boardLink struct {
	Type        string   `json:"type"`
	Title       string   `json:"title"`
	Tags        []string `json:"tags"`
	URL         string   `json:"url"`
	AsDropdown  bool     `json:"asDropdown"`
	Icon        string   `json:"icon"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
	TargetBlank bool     `json:"targetBlank"`
	Tooltip     string   `json:"tooltip"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type panelJSON struct {
	ID              int              `json:"id"`
	Type            string           `json:"type"`
	Title           string           `json:"title"`
	Description     string           `json:"description,omitempty"`
	GridPos         gridPos          `json:"gridPos"`
	Datasource      *dataSourceRef   `json:"datasource,omitempty"`
	Targets         []targetJSON     `json:"targets,omitempty"`
	FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
	Options         map[string]any   `json:"options,omitempty"`
	Transformations []transformation `json:"transformations,omitempty"`
	// Only of rows.
	Collapsed *bool         `json:"collapsed,omitempty"`
	Panels    *[]*panelJSON `json:"panels,omitempty"`

	queries []Query
}

type targetJSON struct {
	RefID        string         `json:"refId"`
	Datasource   *dataSourceRef `json:"datasource"`
	EditorMode   string         `json:"editorMode"`
	Expr         string         `json:"expr"`
	LegendFormat string         `json:"legendFormat"`
	Format       string         `json:"format"` // time_series, table, heatmap
	Instant      bool           `json:"instant"`
	Range        bool           `json:"range"`
	Exemplar     bool           `json:"exemplar"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []override    `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string         `json:"unit,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	Max        *float64       `json:"max,omitempty"`
	NoValue    string         `json:"noValue,omitempty"`
	Color      map[string]any `json:"color,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
}

type thresholds struct {
	Mode  string          `json:"mode"`
	Steps []thresholdStep `json:"steps"`
}

// thresholdStep has no value in the first step, which reaches down without end.
type thresholdStep struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type override struct {
	Matcher    matcher    `json:"matcher"`
	Properties []property `json:"properties"`
}

type matcher struct {
	ID      string `json:"id"`
	Options any    `json:"options"`
}

type property struct {
	ID    string `json:"id"`
	Value any    `json:"value"`
}

type transformation struct {
	ID      string         `json:"id"`
	Options map[string]any `json:"options"`
}
