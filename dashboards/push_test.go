package dashboards

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeGrafana keeps what is pushed, by the rules of Grafana 13's API: no
// changing by numeric ID, folders by UID only.
type fakeGrafana struct {
	t *testing.T

	mu      sync.Mutex // guards the fields below
	sources map[string]map[string]any
	folders map[string]map[string]any
	boards  map[string]storedBoard
	writes  []string
	refuse  int // status for every write, 0 for none
}

type storedBoard struct {
	folder  string
	content map[string]any
}

func newFakeGrafana(t *testing.T) (*fakeGrafana, string) {
	g := &fakeGrafana{t: t, sources: map[string]map[string]any{}, folders: map[string]map[string]any{}, boards: map[string]storedBoard{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sub/api/datasources/name/{name}", g.read(func(r *http.Request) (any, bool) {
		ds, ok := g.sources[r.PathValue("name")]
		return ds, ok
	}))
	mux.HandleFunc("POST /sub/api/datasources", g.write(func(_ *http.Request, body map[string]any) any {
		body["id"] = float64(len(g.sources) + 1)
		g.sources[body["name"].(string)] = body
		return map[string]any{"message": "Datasource added"}
	}))
	mux.HandleFunc("PUT /sub/api/datasources/uid/{uid}", g.write(func(r *http.Request, body map[string]any) any {
		if body["uid"] != r.PathValue("uid") {
			g.t.Errorf("changed data source %v at %s", body["uid"], r.URL.Path)
		}
		g.sources[body["name"].(string)] = body
		return map[string]any{"message": "Datasource updated"}
	}))
	mux.HandleFunc("GET /sub/api/folders/{uid}", g.read(func(r *http.Request) (any, bool) {
		f, ok := g.folders[r.PathValue("uid")]
		return f, ok
	}))
	mux.HandleFunc("POST /sub/api/folders", g.write(func(_ *http.Request, body map[string]any) any {
		g.folders[body["uid"].(string)] = body
		return body
	}))
	mux.HandleFunc("GET /sub/api/dashboards/uid/{uid}", g.read(func(r *http.Request) (any, bool) {
		b, ok := g.boards[r.PathValue("uid")]
		return map[string]any{"dashboard": b.content, "meta": map[string]any{"folderUrl": "/sub/dashboards/f/" + b.folder + "/slug"}}, ok
	}))
	mux.HandleFunc("POST /sub/api/dashboards/db", g.write(g.saveBoard))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return g, srv.URL + "/sub"
}

func (g *fakeGrafana) saveBoard(_ *http.Request, body map[string]any) any {
	folder, _ := body["folderUid"].(string)
	content := body["dashboard"].(map[string]any)
	if len(body) != 3 || body["overwrite"] != true || g.folders[folder] == nil {
		delete(body, "dashboard")
		g.t.Errorf("board saved with more than dashboard, overwrite and a known folderUid: %v", body)
	}
	uid := content["uid"].(string)
	content["id"], content["version"] = float64(len(g.boards)+1), 1.0
	g.boards[uid] = storedBoard{folder: folder, content: content}
	return map[string]any{"uid": uid, "status": "success"}
}

func (g *fakeGrafana) read(find func(*http.Request) (any, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"message":"Invalid API key"}`)
			return
		}
		v, ok := find(r)
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"not found"}`)
			return
		}
		g.answer(w, v)
	}
}

func (g *fakeGrafana) write(do func(*http.Request, map[string]any) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			g.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		g.writes = append(g.writes, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/sub/api"))
		if g.refuse != 0 {
			w.WriteHeader(g.refuse)
			return
		}
		g.answer(w, do(r, body))
	}
}

func (g *fakeGrafana) answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		g.t.Error(err)
	}
}

// taken answers the writes since the last call.
func (g *fakeGrafana) taken() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.writes
	g.writes = nil
	return w
}

func smallPush(url string) PushOptions {
	return PushOptions{
		GrafanaURL: url + "/", Token: "secret", HubURL: "http://hub:15080/", UIURL: "http://localhost:15080",
		Boards: Generate(Inventory{Services: []Service{{"default", "reviews"}}}),
	}
}

func TestPush(t *testing.T) {
	g, url := newFakeGrafana(t)
	o := smallPush(url)
	got, err := Push(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := PushResult{FolderURL: url + "/dashboards/f/telemesh", Saved: 5}
	for _, b := range o.Boards {
		want.BoardURLs = append(want.BoardURLs, url+"/d/"+b.UID+"/"+b.Slug)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"POST /datasources", "POST /folders", "POST /dashboards/db", "POST /dashboards/db", "POST /dashboards/db"}, g.taken()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	ds := g.sources[DataSourceName]
	if ds["uid"] != DataSourceUID || ds["type"] != "prometheus" || ds["access"] != "proxy" || ds["url"] != "http://hub:15080" {
		t.Errorf("data source %v", ds)
	}
	link := ds["jsonData"].(map[string]any)["exemplarTraceIdDestinations"].([]any)[0].(map[string]any)
	if link["url"] != "http://localhost:15080/?request=${__value.raw}" {
		t.Errorf("exemplar link %v", link)
	}
	for _, b := range o.Boards {
		stored := g.boards[b.UID]
		content, err := json.Marshal(stored.content)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := sameBoard(content, []byte(encode(t, b))); err != nil || !same || stored.folder != "telemesh" {
			t.Errorf("board %s is not what was generated, or in folder %q: %v", b.Title, stored.folder, err)
		}
	}
}

func TestPushAgainChangesOnlyWhatDiffers(t *testing.T) {
	g, url := newFakeGrafana(t)
	o := smallPush(url)
	again := func(saved int, writes ...string) {
		t.Helper()
		res, err := Push(t.Context(), o)
		if err != nil || res.Saved != saved {
			t.Errorf("saved %d, %v, want %d", res.Saved, err, saved)
		}
		if diff := cmp.Diff(writes, g.taken()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	}
	again(5, "POST /datasources", "POST /folders", "POST /dashboards/db", "POST /dashboards/db", "POST /dashboards/db")
	again(0)

	g.boards[meshBoardUID].content["title"] = "edited by hand"
	again(1, "POST /dashboards/db")
	again(0)

	o.HubURL = "http://other:15080"
	again(1, "PUT /datasources/uid/"+DataSourceUID)
	again(0)

	// One made by hand, before us, keeps its UID.
	g.sources[DataSourceName]["uid"] = "by-hand"
	g.sources[DataSourceName]["url"] = "http://old"
	again(1, "PUT /datasources/uid/by-hand")

	g.sources[DataSourceName]["readOnly"] = true
	g.sources[DataSourceName]["url"] = "http://as-provisioned"
	again(0)

	o.Folder = "Team A"
	again(4, "POST /folders", "POST /dashboards/db", "POST /dashboards/db", "POST /dashboards/db")
	again(0)
}

func TestPushSaysWhatWentWrong(t *testing.T) {
	g, url := newFakeGrafana(t)
	tests := []struct {
		name   string
		change func(*PushOptions)
		refuse int
		want   string
	}{
		{"bad URL", func(o *PushOptions) { o.GrafanaURL = "localhost:3000" }, 0, "is not one like http://localhost:3000"},
		{"no hub", func(o *PushOptions) { o.HubURL = "" }, 0, "no hub URL"},
		{"bad token", func(o *PushOptions) { o.Token = "old" }, 0, `push data source "telemesh hub"`},
		{"token explained", func(o *PushOptions) { o.Token = "old" }, 0, "grafana answered 401: Invalid API key; is the token right"},
		{"no right", func(*PushOptions) {}, http.StatusForbidden, "needs the role Admin"},
		{"broken server, no JSON", func(*PushOptions) {}, http.StatusInternalServerError, "grafana answered 500"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g.mu.Lock()
			g.refuse = tt.refuse
			g.mu.Unlock()
			o := smallPush(url)
			tt.change(&o)
			res, err := Push(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(res.BoardURLs) > 0 {
				t.Errorf("got %v, %v, want an error with %q", res, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}
