package ui_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	ui "github.com/telemesh/telemesh/topology-ui"
)

func built() fstest.MapFS {
	return fstest.MapFS{
		".gitkeep":              {},
		"index.html":            {Data: []byte(`<meta property="csp-nonce" nonce="__CSP_NONCE__"><div id="root"></div>`)},
		"favicon.svg":           {Data: []byte("<svg/>")},
		"assets/index-A1.js":    {Data: []byte("export {}")},
		"assets/index-A1.css":   {Data: []byte("body{}")},
		"assets/inter-A1.woff2": {Data: []byte("wOF2")},
	}
}

func get(t *testing.T, h http.Handler, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

func TestHandlerAnswersByPath(t *testing.T) {
	const immutable = "public, max-age=31536000, immutable"
	tests := []struct {
		name, method, target string
		status               int
		contentType, cache   string
		body                 string
	}{
		{"root is the application", "GET", "/", 200, "text/html; charset=utf-8", "no-cache", `id="root"`},
		{"a navigation path is the application", "GET", "/graph/default?window=60", 200, "text/html; charset=utf-8", "no-cache", `id="root"`},
		{"index.html by name is the application", "GET", "/index.html", 200, "text/html; charset=utf-8", "no-cache", `id="root"`},
		{"a script never changes", "GET", "/assets/index-A1.js", 200, "text/javascript; charset=utf-8", immutable, "export"},
		{"a style sheet never changes", "GET", "/assets/index-A1.css", 200, "text/css; charset=utf-8", immutable, "body"},
		{"a font has its type", "GET", "/assets/inter-A1.woff2", 200, "font/woff2", immutable, "wOF2"},
		{"an icon may change", "GET", "/favicon.svg", 200, "image/svg+xml", "no-cache", "<svg/>"},
		{"a script of an older build is gone", "GET", "/assets/index-00.js", 404, "text/plain; charset=utf-8", "", "not found"},
		{"an unknown file is not found", "GET", "/robots.txt", 404, "text/plain; charset=utf-8", "", "not found"},
		{"a hidden file is not served", "GET", "/.gitkeep", 404, "text/plain; charset=utf-8", "", "not found"},
		{"no way out of the folder", "GET", "/../ui.go", 404, "text/plain; charset=utf-8", "", "not found"},
		{"HEAD has no body", "HEAD", "/", 200, "text/html; charset=utf-8", "no-cache", ""},
		{"POST is refused", "POST", "/", 405, "text/plain; charset=utf-8", "", "method not allowed"},
	}
	h := ui.HandlerOf(built())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := get(t, h, tt.method, tt.target)
			if w.Code != tt.status {
				t.Errorf("status: got %d, want %d", w.Code, tt.status)
			}
			if got := w.Header().Get("Content-Type"); got != tt.contentType {
				t.Errorf("Content-Type: got %q, want %q", got, tt.contentType)
			}
			if got := w.Header().Get("Cache-Control"); got != tt.cache {
				t.Errorf("Cache-Control: got %q, want %q", got, tt.cache)
			}
			if got := w.Body.String(); !strings.Contains(got, tt.body) {
				t.Errorf("body: got %q, want it to contain %q", got, tt.body)
			}
		})
	}
}

func TestPageCarriesTheNonceOfItsPolicy(t *testing.T) {
	h := ui.HandlerOf(built())
	pattern := regexp.MustCompile(`'nonce-([\w-]{22})'`)
	seen := map[string]bool{}
	for range 3 {
		w := get(t, h, "GET", "/")
		policy := w.Header().Get("Content-Security-Policy")
		match := pattern.FindStringSubmatch(policy)
		if match == nil {
			t.Fatalf("policy %q has no nonce", policy)
		}
		if body := w.Body.String(); !strings.Contains(body, `nonce="`+match[1]+`"`) {
			t.Errorf("body %q lacks the policy's nonce %q", body, match[1])
		}
		if seen[match[1]] {
			t.Errorf("nonce %q was used twice", match[1])
		}
		seen[match[1]] = true
	}
}

func TestPolicyAllowsNothingInlineOrForeign(t *testing.T) {
	policy := get(t, ui.HandlerOf(built()), "GET", "/").Header().Get("Content-Security-Policy")
	for _, banned := range []string{"unsafe-inline", "unsafe-eval", "http:", "https:", "data:", "*"} {
		if strings.Contains(policy, banned) {
			t.Errorf("policy %q contains %q", policy, banned)
		}
	}
}

func TestHandlerWithoutABuildSaysHowToBuild(t *testing.T) {
	w := get(t, ui.HandlerOf(fstest.MapFS{".gitkeep": {}}), "GET", "/")
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status: got %d, want %d", w.Code, http.StatusServiceUnavailable)
	}
	if body := w.Body.String(); !strings.Contains(body, "make build") || strings.Contains(body, "__CSP_NONCE__") {
		t.Errorf("body: got %q, want the command and a nonce", body)
	}
}

// The embedded folder may hold a build or not; either way there is a page.
func TestEmbeddedHandlerAnswers(t *testing.T) {
	w := get(t, ui.Handler(), "GET", "/")
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type: got %q", got)
	}
}
