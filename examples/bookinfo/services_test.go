package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestAnswers(t *testing.T) {
	ratings := start(t, "ratings")
	details := start(t, "details")
	gone := closedPort(t)
	failing := start(t, "ratings", "--fault", "error=503:100%")
	v1 := start(t, "reviews", "--version", "v1", "--ratings-host", gone)
	v2 := start(t, "reviews", "--version", "v2", "--ratings-host", ratings)
	v3 := start(t, "reviews", "--version", "v3", "--ratings-host", ratings)
	cut := start(t, "reviews", "--version", "v3", "--ratings-host", gone)
	hurt := start(t, "reviews", "--version", "v2", "--ratings-host", failing)
	page := start(t, "productpage", "--details-host", details, "--reviews-host", v3, "--ratings-host", ratings)
	alone := start(t, "productpage", "--details-host", gone, "--reviews-host", gone, "--ratings-host", gone)

	const jsonType, htmlType = "application/json", "text/html; charset=utf-8"
	tests := []struct {
		name, url string
		status    int
		mime      string
		want      []string
		not       string
	}{
		{"details", details + "/details/7", 200, jsonType, []string{`"id":7,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200`, `"ISBN-13":"123-1234567890"`}, ""},
		{"details health", details + "/health", 200, jsonType, []string{`{"status":"Details is healthy"}`}, ""},
		{"details of no number", details + "/details/x", 400, jsonType, []string{"please provide numeric product ID"}, ""},
		{"ratings", ratings + "/ratings/3", 200, jsonType, []string{`{"id":3,"ratings":{"Reviewer1":5,"Reviewer2":4}}`}, ""},
		{"ratings health", ratings + "/health", 200, jsonType, []string{"Ratings is healthy"}, ""},
		{"failing ratings", failing + "/ratings/3", 503, jsonType, []string{"fault injected"}, ""},
		{"failing ratings are healthy", failing + "/health", 200, jsonType, []string{"healthy"}, ""},
		{"reviews v1 have no stars", v1 + "/reviews/0", 200, jsonType, []string{`"id":"0","podname":"reviews-v1","clustername":"null"`, `"reviewer":"Reviewer2"`}, "rating"},
		{"reviews v2 are black", v2 + "/reviews/0", 200, jsonType, []string{`"rating":{"stars":5,"color":"black"}`, `"rating":{"stars":4,"color":"black"}`}, `"red"`},
		{"reviews v3 are red", v3 + "/reviews/0", 200, jsonType, []string{`"rating":{"stars":5,"color":"red"}`}, `"black"`},
		{"reviews without ratings", cut + "/reviews/0", 200, jsonType, []string{`"rating":{"error":"Ratings service is currently unavailable"}`, "Reviewer2"}, "stars"},
		{"reviews with failing ratings", hurt + "/reviews/0", 200, jsonType, []string{ratingsUnavailable}, "stars"},
		{"products", page + "/api/v1/products", 200, jsonType, []string{`"title":"The Comedy of Errors"`}, ""},
		{"product", page + "/api/v1/products/0", 200, jsonType, []string{`"publisher":"PublisherA"`}, ""},
		{"product's reviews", page + "/api/v1/products/0/reviews", 200, jsonType, []string{`"color":"red"`}, ""},
		{"product's ratings", page + "/api/v1/products/0/ratings", 200, jsonType, []string{`"Reviewer1":5`}, ""},
		{"product's ratings gone", alone + "/api/v1/products/0/ratings", 500, jsonType, []string{productRatingsGone}, ""},
		{"index", page + "/", 200, htmlType, []string{"/productpage", "/api/v1/products"}, ""},
		{"page health", page + "/health", 200, "text/plain; charset=utf-8", []string{"Product page is healthy"}, ""},
		{"page", page + "/productpage", 200, htmlType, []string{"The Comedy of Errors", "PublisherA", "reviews v3", `class="stars red"`, "4 of 5 stars", "<b>William Shakespeare"}, "role=\"alert\""},
		{"page alone", alone + "/productpage", 200, htmlType, []string{"Error fetching product details", "Error fetching product reviews", "no answer from reviews"}, "stars red"},
		{"unknown path", page + "/nowhere", 404, "text/plain; charset=utf-8", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, mime, text := do(t, http.MethodGet, "http://"+tt.url, "", nil)
			if status != tt.status || mime != tt.mime {
				t.Errorf("got %d %s, want %d %s", status, mime, tt.status, tt.mime)
			}
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("answer lacks %q:\n%s", want, text)
				}
			}
			if tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("answer has %q:\n%s", tt.not, text)
			}
		})
	}
}

func TestPageShowsHowToTraceIt(t *testing.T) {
	page := start(t, "productpage", "--details-host", closedPort(t), "--reviews-host", closedPort(t))
	_, _, text := do(t, http.MethodGet, "http://"+page+"/productpage", "", http.Header{"X-Request-Id": {"abc-<1>"}})
	if !strings.Contains(text, "meshctl trace abc-&lt;1&gt;") {
		t.Errorf("no escaped command:\n%s", text)
	}
	if _, text := get(t, "http://"+page+"/productpage"); !strings.Contains(text, "did not pass a sidecar") {
		t.Errorf("no word about the missing ID:\n%s", text)
	}
}

func TestPostedRatingsAreServed(t *testing.T) {
	host := start(t, "ratings")
	tests := []struct {
		name, body string
		status     int
	}{
		{"no JSON", "five", 400},
		{"null", "null", 400},
		{"out of range", `{"Reviewer1":6}`, 400},
		{"too long", `{"` + strings.Repeat("x", maxRatingBody) + `":1}`, 413},
		{"good", `{"Reviewer1":1}`, 200},
	}
	for _, tt := range tests {
		if status, _, text := do(t, http.MethodPost, "http://"+host+"/ratings/0", tt.body, nil); status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, status, text, tt.status)
		}
	}
	if _, text := get(t, "http://"+host+"/ratings/0"); !strings.Contains(text, `{"id":0,"ratings":{"Reviewer1":1}}`) {
		t.Errorf("posted ratings not served: %s", text)
	}
}

// TestHeadersReachTheLastService follows every forwarded header, and one that
// must stay behind, from the page through reviews to ratings.
func TestHeadersReachTheLastService(t *testing.T) {
	var mu sync.Mutex
	var got http.Header
	last := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = r.Header.Clone()
		writeJSON(w, http.StatusOK, Ratings{})
	}))
	defer last.Close()
	reviews := start(t, "reviews", "--version", "v2", "--ratings-host", last.Listener.Addr().String())
	page := start(t, "productpage", "--details-host", closedPort(t), "--reviews-host", reviews)

	sent := http.Header{"X-Private": {"no"}}
	for _, name := range forwardedHeaders() {
		sent.Set(name, "value of "+name)
	}
	do(t, http.MethodGet, "http://"+page+"/productpage", "", sent)
	mu.Lock()
	defer mu.Unlock()
	for _, name := range forwardedHeaders() {
		if want := "value of " + name; got.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, got.Get(name), want)
		}
	}
	if v := got.Get("X-Private"); v != "" {
		t.Errorf("x-private was passed on: %q", v)
	}
}

func TestCountsAreExact(t *testing.T) {
	ratings := start(t, "ratings", "--fault", "error=503:100%")
	reviews := start(t, "reviews", "--version", "v2", "--ratings-host", ratings)
	page := start(t, "productpage", "--details-host", closedPort(t), "--reviews-host", reviews, "--ratings-host", ratings)

	const workers, each = 4, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				get(t, "http://"+page+"/productpage")
				get(t, "http://"+page+pathHealth)
			}
		})
	}
	wg.Wait()
	get(t, "http://"+page+"/nowhere")
	get(t, "http://"+ratings+pathFault)

	const n = workers * each
	for host, want := range map[string]Counts{
		page: {Service: "productpage", Version: "v1", Received: n + 1, Sent: map[string]SentCounts{
			"details": {Unsent: n}, "reviews": {Requests: n}, "ratings": {}}},
		reviews: {Service: "reviews", Version: "v2", Received: n, Sent: map[string]SentCounts{"ratings": {Requests: n, Failed: n}}},
		ratings: {Service: "ratings", Version: "v1", Received: n, Sent: map[string]SentCounts{}},
	} {
		if got := countsOf(t, host); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", want.Service, got, want)
		}
	}
}

// TestSentWithoutAnswerCountsAsFailed talks to a server that reads a request
// and hangs up.
func TestSentWithoutAnswerCountsAsFailed(t *testing.T) {
	for name, reply := range map[string]string{
		"no answer":  "",
		"half a one": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprint(conn, reply)
				conn.Close()
			}))
			defer rude.Close()
			reviews := start(t, "reviews", "--version", "v3", "--ratings-host", rude.Listener.Addr().String())
			if status, text := get(t, "http://"+reviews+"/reviews/0"); status != 200 || !strings.Contains(text, ratingsUnavailable) {
				t.Errorf("got %d %s", status, text)
			}
			want := SentCounts{Requests: 1, Failed: 1}
			if got := countsOf(t, reviews).Sent["ratings"]; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestCallsGoThroughTheProxy checks that calls to names are sent to the proxy
// in absolute form, as to a sidecar, and that a missing proxy is unsent.
func TestCallsGoThroughTheProxy(t *testing.T) {
	var mu sync.Mutex
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = r.RequestURI
		writeJSON(w, http.StatusOK, Ratings{ID: 4, Ratings: map[string]int{"Reviewer1": 2, "Reviewer2": 2}})
	}))
	defer proxy.Close()

	ask := func(authority string) (string, Counts) {
		cfg := Config{Service: serviceReviews, Version: "v2", RatingsHost: "ratings.default:9080"}
		transport := newTransport(http.ProxyURL(&url.URL{Scheme: "http", Host: authority}))
		defer transport.CloseIdleConnections()
		srv := httptest.NewServer(handler(t, cfg, transport))
		defer srv.Close()
		_, text := get(t, srv.URL+"/reviews/4")
		return text, countsOf(t, srv.Listener.Addr().(*net.TCPAddr).String())
	}
	text, counts := ask(proxy.Listener.Addr().String())
	mu.Lock()
	if want := "http://ratings.default:9080/ratings/4"; asked != want || !strings.Contains(text, `"stars":2`) {
		t.Errorf("proxy was asked for %q, want %q; answer %s", asked, want, text)
	}
	mu.Unlock()
	if want := (SentCounts{Requests: 1}); counts.Sent["ratings"] != want {
		t.Errorf("through the proxy: %+v, want %+v", counts.Sent["ratings"], want)
	}
	if _, counts = ask(closedPort(t)); counts.Sent["ratings"] != (SentCounts{Unsent: 1}) {
		t.Errorf("without the proxy: %+v, want one unsent", counts.Sent["ratings"])
	}
}
