package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
)

// PushOptions says where boards go.
type PushOptions struct {
	// GrafanaURL is Grafana's root, as its own "root_url".
	GrafanaURL string
	// Token of a service account that may write data sources, folders and
	// boards (role Admin), or user:password.
	Token string
	// HubURL is where Grafana finds the hub's Prometheus API.
	HubURL string
	// UIURL is where browsers find the hub's UI; empty means HubURL.
	UIURL string
	// Folder is the title of the folder; empty means "telemesh".
	Folder string
	Boards []Board
}

// PushResult says where they are.
type PushResult struct {
	FolderURL string
	// BoardURLs are in the order of PushOptions.Boards.
	BoardURLs []string
	// Saved counts what Grafana had to take over: data source, folder and
	// boards. 0 means that everything was there already.
	Saved int
}

// grafana is what Push needs of Grafana's API. A missing thing is not an
// error: found is false.
type grafana interface {
	dataSource(ctx context.Context, name string) (ds dataSource, found bool, err error)
	// saveDataSource creates ds, or changes the one that has its ID.
	saveDataSource(ctx context.Context, ds dataSource) error
	folderExists(ctx context.Context, uid string) (bool, error)
	createFolder(ctx context.Context, uid, title string) error
	// board answers the stored JSON and the UID of the folder it is in.
	board(ctx context.Context, uid string) (content []byte, folder string, found bool, err error)
	// saveBoard stores a board in the folder that the client was made for,
	// over the one that has its UID.
	saveBoard(ctx context.Context, content []byte) error
}

// dataSource is Grafana's record of the hub. ID is 0 before Grafana gave one.
type dataSource struct {
	ID             uint
	UID, Name, URL string
	Options        map[string]any
	// Provisioned from a file, which Grafana's API may not change.
	Provisioned bool
}

// Push makes Grafana show the boards: data source, folder and boards are
// created, or changed where they differ from what they should be. Pushing the
// same again changes nothing. It stops at the first error; what was done
// until then stays, and the next push goes on from there.
func Push(ctx context.Context, o PushOptions) (PushResult, error) {
	root, err := url.Parse(o.GrafanaURL)
	if err != nil || root.Host == "" || (root.Scheme != "http" && root.Scheme != "https") {
		return PushResult{}, fmt.Errorf("grafana URL %q is not one like http://localhost:3000", o.GrafanaURL)
	}
	if o.HubURL == "" {
		return PushResult{}, errors.New("no hub URL to point Grafana's data source at")
	}
	if o.Folder == "" {
		o.Folder = folderTitle
	}
	if o.UIURL == "" {
		o.UIURL = o.HubURL
	}
	folder := folderUID
	if o.Folder != folderTitle {
		folder = uidOf("folder", "", o.Folder)
	}
	client, err := newSDKClient(trimSlash(o.GrafanaURL), o.Token, folder)
	if err != nil {
		return PushResult{}, err
	}
	defer client.close()
	return push(ctx, client, o, folder)
}

func push(ctx context.Context, g grafana, o PushOptions, folder string) (PushResult, error) {
	base := trimSlash(o.GrafanaURL)
	res := PushResult{FolderURL: base + "/dashboards/f/" + folder}
	saved, err := pushDataSource(ctx, g, o)
	if err != nil {
		return res, fmt.Errorf("push data source %q: %w", DataSourceName, err)
	}
	res.count(saved)
	if saved, err = pushFolder(ctx, g, folder, o.Folder); err != nil {
		return res, fmt.Errorf("push folder %q: %w", o.Folder, err)
	}
	res.count(saved)
	for _, b := range o.Boards {
		if saved, err = pushBoard(ctx, g, b, folder); err != nil {
			return res, fmt.Errorf("push board %q: %w", b.Title, err)
		}
		res.count(saved)
		res.BoardURLs = append(res.BoardURLs, base+b.Path())
	}
	return res, nil
}

func (r *PushResult) count(saved bool) {
	if saved {
		r.Saved++
	}
}

func pushDataSource(ctx context.Context, g grafana, o PushOptions) (saved bool, err error) {
	want := dataSource{UID: DataSourceUID, Name: DataSourceName, URL: trimSlash(o.HubURL), Options: sourceOptions(o.UIURL)}
	got, found, err := g.dataSource(ctx, want.Name)
	if err != nil {
		return false, err
	}
	if got.Provisioned {
		// Whoever provisioned it knows better how this Grafana reaches the hub.
		return false, nil
	}
	if found {
		want.ID = got.ID
		// One made by hand keeps its UID: other boards may refer to it, and
		// ours let the data source be chosen.
		want.UID = got.UID
		if same, err := sameJSON(got, want); err != nil || same {
			return false, err
		}
	}
	return true, g.saveDataSource(ctx, want)
}

func pushFolder(ctx context.Context, g grafana, uid, title string) (saved bool, err error) {
	found, err := g.folderExists(ctx, uid)
	if err != nil || found {
		return false, err
	}
	return true, g.createFolder(ctx, uid, title)
}

func pushBoard(ctx context.Context, g grafana, b Board, folder string) (saved bool, err error) {
	want, err := b.JSON()
	if err != nil {
		return false, err
	}
	got, at, found, err := g.board(ctx, b.UID)
	if err != nil {
		return false, err
	}
	if found && at == folder {
		if same, err := sameBoard(got, want); err != nil || same {
			return false, err
		}
	}
	return true, g.saveBoard(ctx, want)
}

// sameBoard compares without what Grafana adds when it stores a board.
func sameBoard(a, b []byte) (bool, error) {
	var boards [2]map[string]any
	for i, content := range [][]byte{a, b} {
		if err := json.NewDecoder(bytes.NewReader(content)).Decode(&boards[i]); err != nil {
			return false, fmt.Errorf("decode board: %w", err)
		}
		delete(boards[i], "id")
		delete(boards[i], "version")
	}
	return reflect.DeepEqual(boards[0], boards[1]), nil
}

// sameJSON compares by JSON, where a slice and a decoded list are alike.
func sameJSON(a, b any) (bool, error) {
	left, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	right, err := json.Marshal(b)
	return bytes.Equal(left, right), err
}
