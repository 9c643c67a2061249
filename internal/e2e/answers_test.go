//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// edge between two workloads.
func edge(g topologyv1.Graph, source, destination string) topologyv1.Edge {
	from, to := node(g, source).ID, node(g, destination).ID
	for _, e := range g.Edges {
		if e.Source == from && e.Destination == to {
			return e
		}
	}
	return topologyv1.Edge{}
}

// responses of an edge over the last minute, by response flags.
func (d *demo) responses(id string) (map[string]uint64, error) {
	var s topologyv1.Series
	if err := getJSON(d.Hub+"/api/mesh/v1/series?window=60&edge="+url.QueryEscape(id), &s); err != nil {
		return nil, err
	}
	out := make(map[string]uint64)
	for _, r := range s.Responses {
		for flag := range strings.SplitSeq(r.Flags, ",") {
			out[flag] += r.Requests
		}
	}
	return out, nil
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a GET and reads the whole answer.
func call(client *http.Client, url string) (answer, error) {
	resp, err := client.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(b)}, err
}
