// Package jwks fetches JSON Web Key Sets: the one place where the sidecar is an
// HTTP client of its own, far from the request path.
package jwks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxBytes of a key set.
const maxBytes = 1 << 20

// Fetch gets the key set at an http or https URI. It follows redirects as
// net/http does, but not to another scheme, and returns when ctx ends. Every call
// has a connection of its own: they are minutes apart.
func Fetch(ctx context.Context, uri string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	client := http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) >= 5 || next.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("redirect to %s is not followed", next.URL)
			}
			return nil
		},
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys from %s: status %d, want 200", uri, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("fetch keys from %s: %w", uri, err)
	}
	if len(body) > maxBytes {
		return nil, fmt.Errorf("fetch keys from %s: more than %d bytes", uri, maxBytes)
	}
	return body, nil
}
