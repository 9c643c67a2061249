// Package ui serves the web application that npm builds into dist. The files
// are part of the binary, so that a hub is one file and its pages always fit
// its API.
package ui

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// dist holds .gitkeep alone until the application is built; the directive's
// "all:" lets that name match.
//
//go:embed all:dist
var dist embed.FS

const (
	// noncePlaceholder is what vite writes where a nonce belongs (html.cspNonce
	// in vite.config.ts).
	noncePlaceholder = "__CSP_NONCE__"
	assetsPrefix     = "assets/"
	indexName        = "index.html"
)

// Handler serves the built application from the binary; see [HandlerOf].
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		// The directive above names the folder: it is there or nothing compiles.
		panic(err)
	}
	return HandlerOf(files)
}

// HandlerOf serves an application from files. A path that names a file gets the
// file. Any other path gets index.html, because the application itself reads
// the address, except one that looks like a file and one under assets/: those
// are 404, so that a page of an older build fails loudly instead of running
// HTML as a script. Without index.html every page says how to build it.
//
// The handler is safe for concurrent use. It answers GET and HEAD only.
func HandlerOf(files fs.FS) http.Handler {
	index, err := fs.ReadFile(files, indexName)
	if err != nil {
		index = nil
	}
	return &handler{files: files, index: index}
}

type handler struct {
	files fs.FS
	// index is nil when nothing was built.
	index []byte
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "same-origin")
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	switch {
	case h.isFile(name):
		h.serveFile(w, r, name)
	case strings.HasPrefix(name, assetsPrefix) || path.Ext(name) != "" && name != indexName:
		http.NotFound(w, r)
	case h.index == nil:
		servePage(w, r, http.StatusServiceUnavailable, []byte(unbuiltPage))
	default:
		servePage(w, r, http.StatusOK, h.index)
	}
}

// isFile reports whether name is a file to be served as it stands. Hidden files
// are none: dist/.gitkeep is no part of the application.
func (h *handler) isFile(name string) bool {
	if name == indexName || strings.HasPrefix(path.Base(name), ".") {
		return false
	}
	info, err := fs.Stat(h.files, name)
	return err == nil && info.Mode().IsRegular()
}

func (h *handler) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	if t := contentType(path.Ext(name)); t != "" {
		w.Header().Set("Content-Type", t)
	}
	// Names under assets/ carry a hash of the content, so they never change.
	cache := "no-cache"
	if strings.HasPrefix(name, assetsPrefix) {
		cache = "public, max-age=31536000, immutable"
	}
	w.Header().Set("Cache-Control", cache)
	http.ServeFileFS(w, r, h.files, name)
}

// contentType knows the types of a web application itself, because the
// machine's own table may lack them or be wrong.
func contentType(ext string) string {
	switch ext {
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".json", ".map":
		return "application/json"
	default:
		return mime.TypeByExtension(ext)
	}
}

// servePage answers with an HTML page under a policy that lets it load from
// this origin alone and run nothing inline. Styles that the application adds
// while it runs carry the nonce, which is new in each answer.
func servePage(w http.ResponseWriter, r *http.Request, status int, page []byte) {
	nonce := newNonce()
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", contentSecurityPolicy(nonce))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	// A client that has gone needs no further word.
	_, _ = w.Write(bytes.ReplaceAll(page, []byte(noncePlaceholder), []byte(nonce)))
}

func contentSecurityPolicy(nonce string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self' 'nonce-" + nonce + "'",
		"img-src 'self'",
		"font-src 'self'",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

func newNonce() string {
	var b [16]byte
	// Read never fails (crypto/rand, since Go 1.24).
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

const unbuiltPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>telemesh: the web UI is not built</title>
<style nonce="` + noncePlaceholder + `">
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 34em; margin: 12vh auto; padding: 0 1.5em }
code { font-family: ui-monospace, monospace; padding: .1em .4em; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: 5px }
</style>
</head>
<body>
<h1>The web UI is not part of this binary</h1>
<p>This hub was compiled before the UI was built. Run <code>make build</code>, which builds both, and start the hub again.</p>
<p>Everything else works: the same graph is at <a href="/api/mesh/v1/graph"><code>/api/mesh/v1/graph</code></a> and on the command line with <code>meshctl</code>.</p>
</body>
</html>
`
