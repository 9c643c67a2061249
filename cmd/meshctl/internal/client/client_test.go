package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is a client of a server with one handler.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(strings.TrimPrefix(s.URL, "http://") + "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestIDsAreEscaped(t *testing.T) {
	const id = "a/b?c#d%20 é"
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/api/mesh/v1/requests/"))
		if got != id || err != nil {
			t.Errorf("id %q, %v, want %q", got, err, id)
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"no such request","hint":"look again"}`)
	})
	_, err := c.Trace(t.Context(), id)
	var refused *Error
	if !NotFound(err) || !errors.As(err, &refused) || refused.Hint != "look again" {
		t.Errorf("error %v", err)
	}
}

func TestErrorsSayWhoFailed(t *testing.T) {
	var unreachable *UnreachableError
	var refused *Error
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"version":`)
	})
	if _, err := cut.Status(t.Context()); !errors.As(err, &unreachable) {
		t.Errorf("an answer that broke off: %v", err)
	}
	page := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	if _, err := page.Graph(t.Context(), time.Minute); !errors.As(err, &refused) || !strings.Contains(refused.Hint, "--hub") {
		t.Errorf("a web page: %v", err)
	}
	if _, err := page.Query(t.Context(), "up"); !errors.As(err, &refused) {
		t.Errorf("a web page for a query: %v", err)
	}
	missing := serve(t, http.NotFound)
	if _, err := missing.Trace(t.Context(), "x"); NotFound(err) {
		t.Errorf("a server that has no such page knows of no request: %v", err)
	}
}

func TestReadEvents(t *testing.T) {
	read := func(stream string) string {
		var got []string
		err := readEvents(strings.NewReader(stream), func(name string, data []byte) error {
			got = append(got, name+"="+string(data))
			return nil
		})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", stream, err)
		}
		return strings.Join(got, " ")
	}
	for stream, want := range map[string]string{
		"":                                     "",
		"event: a\ndata: 1\n\n":                "a=1",
		"event:a\r\ndata:1\r\n\r\n":            "a=1",
		": comment\n\nid: 7\ndata: x\n\n":      "=x",
		"data: 1\ndata: 2\n\n":                 "=1\n2",
		"event: a\n\nevent: b\ndata\n\n":       "b=",
		"event: a\ndata: {\"x\":\"y: z\"}\n\n": `a={"x":"y: z"}`,
		"event: cut\ndata: off":                "",
	} {
		if got := read(stream); got != want {
			t.Errorf("%q: got %q, want %q", stream, got, want)
		}
	}
}

func TestTapEndsAsItsSinkDoes(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("status"); got != "5xx" {
			t.Errorf("status %q", got)
		}
		fmt.Fprint(w, "event: later\ndata: ?\n\nevent: record\ndata: {\"code\":503}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // a live stream stays open
	})
	enough := errors.New("enough")
	err := c.Tap(t.Context(), url.Values{"status": {"5xx"}}, Tap{
		Record: func(r *topologyv1.Record) error {
			if r.Code != 503 {
				t.Errorf("code %d, want 503", r.Code)
			}
			return enough
		},
		Lagged: func() { t.Error("lagged without a reason") },
	})
	if !errors.Is(err, enough) {
		t.Errorf("error %v, want the sink's", err)
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add("event: record\ndata: {}\n\n")
	f.Add(": c\n\ndata\n\nid\n")
	f.Fuzz(func(t *testing.T, stream string) {
		total := 0
		err := readEvents(strings.NewReader(stream), func(_ string, data []byte) error {
			total += len(data)
			return nil
		})
		if err == nil || total > len(stream) {
			t.Errorf("%d bytes of data from %d, error %v", total, len(stream), err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.5,"2"]}]}`)
	f.Add(`{"resultType":"matrix","result":[{"values":[[1,"2"]],"histograms":[[1,{"count":"2"}]]}]}`)
	f.Add(`{"resultType":"scalar","result":[1,"2"]}`)
	f.Fuzz(func(t *testing.T, data string) {
		if a, err := (queryResponse{Data: json.RawMessage(data)}).answer(); err == nil && a == nil {
			t.Error("neither an answer nor an error")
		}
	})
}
