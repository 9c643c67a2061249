// Package client reads the hub: its JSON API (api/topology/v1), its streams of
// server-sent events and its PromQL endpoint. It changes nothing there.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

const (
	// maxBodyBytes bounds an answer. A graph of 10,000 edges has about 10 MB.
	maxBodyBytes = 64 << 20
	// answerTimeout is for everything but streams. The hub's own queries end
	// well before it.
	answerTimeout = 30 * time.Second
)

// UnreachableError says that no hub answered at all.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no hub answers at %s: %v", e.URL, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Error is a refusal by the hub.
type Error struct {
	Status  int // HTTP status
	Message string
	Hint    string // the next step, may be empty
}

func (e *Error) Error() string { return e.Message }

// NotFound reports whether the hub answered that it has no such thing.
func NotFound(err error) bool {
	var refusal *Error
	return errors.As(err, &refusal) && refusal.Status == http.StatusNotFound
}

// Client talks to one hub. Safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
}

// New makes a client of the hub at a URL like http://127.0.0.1:15080; the
// scheme may be left out. It does not connect yet.
func New(hub string) (*Client, error) {
	if !strings.Contains(hub, "://") {
		hub = "http://" + hub
	}
	base, err := url.Parse(strings.TrimRight(hub, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("hub URL %q is not one like http://127.0.0.1:15080", hub)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &Client{base: base, http: &http.Client{Transport: transport}}, nil
}

// Close frees idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// URL is the hub's root, without a slash at its end.
func (c *Client) URL() string { return c.base.String() }

// Graph is the live graph over the window that ends now, in whole seconds.
func (c *Client) Graph(ctx context.Context, window time.Duration) (*topologyv1.Graph, error) {
	var g topologyv1.Graph
	query := url.Values{"window": {strconv.Itoa(int(window / time.Second))}}
	return &g, c.get(ctx, "read the graph", "/api/mesh/v1/graph", query, &g)
}

// Status is the hub's own state.
func (c *Client) Status(ctx context.Context) (*topologyv1.Status, error) {
	var s topologyv1.Status
	return &s, c.get(ctx, "read the status", "/api/mesh/v1/status", nil, &s)
}

// Policies are those in force and the files that were refused.
func (c *Client) Policies(ctx context.Context) (*topologyv1.PolicyList, error) {
	var p topologyv1.PolicyList
	return &p, c.get(ctx, "read the policies", "/api/mesh/v1/policies", nil, &p)
}

// Trace is what the mesh knows of a request, by request ID, trace ID or
// traceparent. NotFound tells an unknown ID from other errors.
func (c *Client) Trace(ctx context.Context, id string) (*topologyv1.Trace, error) {
	return c.trace(ctx, id, "no")
}

// TraceWithDetails is Trace with headers, attempts and policy decisions; the hub
// waits up to two seconds for what it orders from the sidecars.
func (c *Client) TraceWithDetails(ctx context.Context, id string) (*topologyv1.Trace, error) {
	return c.trace(ctx, id, "wait")
}

func (c *Client) trace(ctx context.Context, id, detail string) (*topologyv1.Trace, error) {
	var t topologyv1.Trace
	return &t, c.get(ctx, "look the request up", "/api/mesh/v1/requests/"+url.PathEscape(id), url.Values{"detail": {detail}}, &t)
}

// get reads one JSON document into v.
func (c *Client) get(ctx context.Context, doing, path string, query url.Values, v any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := c.send(ctx, path, query, "application/json")
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", doing, refusal(resp))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBodyBytes)).Decode(v); err != nil {
		return fmt.Errorf("%s: %w", doing, c.undecoded(ctx, resp, err))
	}
	return nil
}

// undecoded tells an answer that is none of a hub's from one that was cut.
func (c *Client) undecoded(ctx context.Context, resp *http.Response, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, io.EOF):
		return notHub(resp, err)
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	}
	return &UnreachableError{URL: c.URL(), Err: fmt.Errorf("the answer broke off: %w", err)}
}

func (c *Client) send(ctx context.Context, path string, query url.Values, accept string) (*http.Response, error) {
	// A path with an escaped ID must stay escaped, so it is joined as text.
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, context.Canceled
		}
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // the URL is said already
		}
		return nil, &UnreachableError{URL: c.URL(), Err: err}
	}
	return resp, nil
}

// refusal reads the hub's Error, or says that it is not one.
func refusal(resp *http.Response) error {
	var e topologyv1.Error
	body := io.LimitReader(resp.Body, maxBodyBytes)
	if err := json.NewDecoder(body).Decode(&e); err != nil || e.Error == "" {
		return notHub(resp, fmt.Errorf("HTTP %s", resp.Status))
	}
	return &Error{Status: resp.StatusCode, Message: e.Error, Hint: e.Hint}
}

// notHub is for an answer that no hub of this version gives. Its status is
// never "not found": whatever answers there does not know that word's meaning.
func notHub(resp *http.Response, err error) error {
	kind, _, parseErr := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if parseErr != nil {
		kind = "no content type"
	}
	return &Error{
		Message: fmt.Sprintf("%s does not answer like a hub: %v (%s)", resp.Request.URL, err, kind),
		Hint:    "check --hub, and that hub and meshctl have the same version (meshctl version)",
	}
}
