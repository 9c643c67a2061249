package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"time"
)

// Sample is a value at a time. Value is text as Prometheus writes it, because
// JSON has no NaN and no infinity; a native histogram is its JSON.
type Sample struct {
	Time  time.Time
	Value string
}

// Series is one time series of an answer.
type Series struct {
	Labels  map[string]string
	Samples []Sample
}

// Answer is what a PromQL expression gives now. Type is vector, matrix,
// scalar or string; the last two are one series without labels.
type Answer struct {
	Type   string
	Series []Series
	// Warnings of the engine; the answer stands nevertheless.
	Warnings []string
	// Raw is the answer's "data" as the hub sent it.
	Raw json.RawMessage
}

type queryResponse struct {
	Status    string          `json:"status"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
	Data      json.RawMessage `json:"data"`
}

type querySeries struct {
	Metric     map[string]string    `json:"metric"`
	Value      *querySample         `json:"value"`
	Values     []querySample        `json:"values"`
	Histogram  *[2]json.RawMessage  `json:"histogram"`
	Histograms [][2]json.RawMessage `json:"histograms"`
}

type querySample [2]json.RawMessage

// Query evaluates PromQL now (Prometheus HTTP API, "Instant queries").
func (c *Client) Query(ctx context.Context, expr string) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := c.send(ctx, "/api/v1/query", url.Values{"query": {expr}}, "application/json")
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	defer resp.Body.Close()
	var q queryResponse
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyBytes))
	if err != nil {
		return nil, fmt.Errorf("query: %w", &UnreachableError{URL: c.URL(), Err: err})
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("query: %w", notHub(resp, err))
	}
	switch {
	case q.Status == "error":
		return nil, fmt.Errorf("query: %w", &Error{
			Status: resp.StatusCode, Message: q.ErrorType + ": " + q.Error,
			Hint: "check the expression; `meshctl query 'count by (__name__) ({__name__=~\".+\"})'` lists the metrics",
		})
	case q.Status != "success":
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return nil, fmt.Errorf("query: %w", refusal(resp))
	}
	a, err := q.answer()
	if err != nil {
		return nil, fmt.Errorf("query: %w", notHub(resp, err))
	}
	return a, nil
}

func (q queryResponse) answer() (*Answer, error) {
	var data struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(q.Data, &data); err != nil {
		return nil, err
	}
	a := &Answer{Type: data.ResultType, Warnings: q.Warnings, Raw: q.Data}
	switch data.ResultType {
	case "scalar", "string":
		var s querySample
		if err := json.Unmarshal(data.Result, &s); err != nil {
			return nil, err
		}
		sample, err := s.sample()
		a.Series = []Series{{Samples: []Sample{sample}}}
		return a, err
	case "vector", "matrix":
		var list []querySeries
		if err := json.Unmarshal(data.Result, &list); err != nil {
			return nil, err
		}
		for _, s := range list {
			series, err := s.series()
			if err != nil {
				return nil, err
			}
			a.Series = append(a.Series, series)
		}
		return a, nil
	}
	return nil, fmt.Errorf("result type %q is unknown", data.ResultType)
}

func (s querySeries) series() (Series, error) {
	out := Series{Labels: s.Metric}
	values := s.Values
	if s.Value != nil {
		values = append(values, *s.Value)
	}
	for _, h := range s.Histograms {
		values = append(values, querySample(h))
	}
	if s.Histogram != nil {
		values = append(values, querySample(*s.Histogram))
	}
	for _, v := range values {
		sample, err := v.sample()
		if err != nil {
			return Series{}, err
		}
		out.Samples = append(out.Samples, sample)
	}
	return out, nil
}

// sample reads [seconds, "value"].
func (s querySample) sample() (Sample, error) {
	var seconds float64
	if err := json.Unmarshal(s[0], &seconds); err != nil {
		return Sample{}, fmt.Errorf("time of a sample: %w", err)
	}
	out := Sample{Time: time.UnixMilli(int64(seconds * 1000)).UTC()}
	if err := json.Unmarshal(s[1], &out.Value); err != nil {
		out.Value = string(s[1])
	}
	return out, nil
}
