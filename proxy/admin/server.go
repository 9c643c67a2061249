package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// releaseWithin is how long requests may take after Release; a CPU profile
// takes half a minute.
const releaseWithin = time.Minute

// Server serves the admin endpoints on a listener.
type Server struct{ http http.Server }

// NewServer returns a server that does nothing before Run.
func NewServer(s Source, gatherer prometheus.Gatherer, level *slog.LevelVar) *Server {
	return &Server{http.Server{Handler: Handler(s, gatherer, level), ReadHeaderTimeout: 10 * time.Second}}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() }) // cuts a profile that is being taken, say
	defer stop()
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("serve admin: %w", err)
}

// Release stops accepting, because another process does. It returns when the
// requests in flight have been answered.
func (s *Server) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseWithin)
	defer cancel()
	_ = s.http.Shutdown(ctx) // what is left ends with Run
}
