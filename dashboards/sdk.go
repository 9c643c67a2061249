package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/grafana-tools/sdk"
)

const (
	// requestTimeout bounds one call to Grafana.
	requestTimeout = 30 * time.Second
	// maxExplanation bounds how much of an error's body is kept.
	maxExplanation = 512
)

// sdkClient speaks to Grafana through grafana-tools/sdk.
type sdkClient struct {
	api       *sdk.Client
	transport *http.Transport
}

func newSDKClient(grafanaURL, token, folder string) (*sdkClient, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second}
	api, err := sdk.NewClient(grafanaURL, token, &http.Client{
		Transport: modernAPI{next: transport, folder: folder}, Timeout: requestTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("reach grafana at %s: %w", grafanaURL, err)
	}
	return &sdkClient{api: api, transport: transport}, nil
}

func (c *sdkClient) close() { c.transport.CloseIdleConnections() }

func (c *sdkClient) dataSource(ctx context.Context, name string) (dataSource, bool, error) {
	ds, err := c.api.GetDatasourceByName(ctx, name)
	if found, err := foundOr(err); !found || err != nil {
		return dataSource{}, false, err
	}
	options, _ := ds.JSONData.(map[string]any)
	provisioned := ds.ReadOnly != nil && *ds.ReadOnly
	return dataSource{ID: ds.ID, UID: ds.UID, Name: ds.Name, URL: ds.URL, Options: options, Provisioned: provisioned}, true, nil
}

func (c *sdkClient) saveDataSource(ctx context.Context, ds dataSource) error {
	save := c.api.CreateDatasource
	if ds.ID != 0 {
		save = c.api.UpdateDatasource
	}
	_, err := save(ctx, sdk.Datasource{
		ID: ds.ID, UID: ds.UID, Name: ds.Name, Type: dataSourceType, Access: "proxy", URL: ds.URL, JSONData: ds.Options,
	})
	return err
}

func (c *sdkClient) folderExists(ctx context.Context, uid string) (bool, error) {
	_, err := c.api.GetFolderByUID(ctx, uid)
	return foundOr(err)
}

func (c *sdkClient) createFolder(ctx context.Context, uid, title string) error {
	_, err := c.api.CreateFolder(ctx, sdk.Folder{UID: uid, Title: title})
	return err
}

func (c *sdkClient) board(ctx context.Context, uid string) ([]byte, string, bool, error) {
	content, properties, err := c.api.GetRawDashboardByUID(ctx, uid)
	if found, err := foundOr(err); !found || err != nil {
		return nil, "", false, err
	}
	// The SDK knows no folder UID, but the folder's URL: /dashboards/f/UID/SLUG.
	_, rest, _ := strings.Cut(properties.FolderURL, "/dashboards/f/")
	folder, _, _ := strings.Cut(rest, "/")
	return content, folder, true, nil
}

func (c *sdkClient) saveBoard(ctx context.Context, content []byte) error {
	_, err := c.api.SetRawDashboardWithParam(ctx, sdk.RawBoardRequest{
		Dashboard: content, Parameters: sdk.SetDashboardParams{Overwrite: true, PreserveId: true},
	})
	return err
}

// foundOr turns "not found" into found == false.
func foundOr(err error) (found bool, _ error) {
	var status statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// statusError is an answer of Grafana other than success.
type statusError struct {
	code        int
	explanation string
}

func (e statusError) Error() string {
	text := fmt.Sprintf("grafana answered %d: %s", e.code, e.explanation)
	switch e.code {
	case http.StatusUnauthorized:
		text += "; is the token right and not expired?"
	case http.StatusForbidden:
		text += "; the token's service account needs the role Admin"
	}
	return text
}

// modernAPI makes the SDK of 2022 fit Grafana's API of today:
//
//   - it answers any status from 400 on as a statusError, where the SDK
//     ignores the status (data sources) or panics for want of a message;
//   - it changes a data source by UID, since changing by ID is gone from
//     Grafana 13;
//   - it names a board's folder by UID, for the same reason.
type modernAPI struct {
	next   http.RoundTripper
	folder string
}

func (m modernAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	req, err := m.modernize(req)
	if err != nil {
		return nil, err
	}
	resp, err := m.next.RoundTrip(req)
	if err != nil || resp.StatusCode < http.StatusBadRequest {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExplanation))
	if err != nil {
		return nil, fmt.Errorf("read grafana's answer: %w", err)
	}
	return nil, statusError{code: resp.StatusCode, explanation: explain(body)}
}

// explain prefers the message of Grafana's JSON errors.
func explain(body []byte) string {
	var e struct{ Message string }
	if json.Unmarshal(body, &e) == nil && e.Message != "" {
		return e.Message
	}
	return strings.TrimSpace(string(body))
}

func (m modernAPI) modernize(req *http.Request) (*http.Request, error) {
	changesSource := req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/api/datasources/")
	savesBoard := req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/api/dashboards/db")
	if !changesSource && !savesBoard {
		return req, nil
	}
	old, err := io.ReadAll(req.Body)
	if err := errors.Join(err, req.Body.Close()); err != nil {
		return nil, err
	}
	var body map[string]any
	if err := json.Unmarshal(old, &body); err != nil {
		return nil, fmt.Errorf("decode the SDK's request: %w", err)
	}
	next := req.Clone(req.Context())
	if changesSource {
		uid, _ := body["uid"].(string)
		next.URL.Path = path.Join(path.Dir(req.URL.Path), "uid", uid)
	}
	if savesBoard {
		// The SDK writes these two names in capitals.
		body["overwrite"] = body["Overwrite"]
		delete(body, "Overwrite")
		delete(body, "FolderID")
		body["folderUid"] = m.folder
	}
	content, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	next.Body, next.ContentLength = io.NopCloser(bytes.NewReader(content)), int64(len(content))
	next.GetBody = nil
	return next, nil
}
