package pod

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/telemesh/telemesh/proxy/capture"
)

// Service is a service of the mesh by its names.
type Service struct{ Name, Namespace, Host string }

// WriteHosts makes the services' names resolve in the pod, to their virtual
// addresses. What this machine's own file says of loopback stays. namespace is
// the program's, whose services go by their short names as well.
func (p *Pod) WriteHosts(namespace string, services []Service) error {
	file := filepath.Join(p.etc(), "hosts")
	text := hosts(namespace, services)
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, text) {
		return nil
	}
	// In place and in one write: the file is mounted over /etc/hosts, and a new
	// one of the same name would not be.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func hosts(namespace string, services []Service) []byte {
	var b bytes.Buffer
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	names := make([]string, 0, len(services))
	for _, s := range services {
		names = append(names, s.Host)
	}
	at := capture.VirtualAddresses(names)
	slices.SortFunc(services, func(a, c Service) int { return strings.Compare(a.Host, c.Host) })
	for _, s := range services {
		qualified := s.Name + "." + s.Namespace
		fmt.Fprintf(&b, "%s %s %s.svc %s", at[s.Host], qualified, qualified, s.Host)
		if s.Namespace == namespace {
			fmt.Fprintf(&b, " %s", s.Name)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// maxClusters bounds the sidecar's answer.
const maxClusters = 16 << 20

// Services asks a sidecar which services it knows.
func Services(ctx context.Context, admin string) ([]Service, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/clusters", nil)
	if err != nil {
		return nil, err
	}
	// A connection of its own: nothing is left open between two questions.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the sidecar for services: %w", err)
	}
	defer resp.Body.Close()
	var list []Service
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxClusters)).Decode(&list); err != nil {
		return nil, fmt.Errorf("read the sidecar's services: %w", err)
	}
	return list, nil
}

// FollowServices keeps the pod's names like the sidecar's services until ctx
// ends. first is closed when there were some and they have been written.
func (p *Pod) FollowServices(ctx context.Context, admin, namespace string, first chan<- struct{}) {
	const start, steady = 50 * time.Millisecond, time.Second
	for {
		// A sidecar that starts again answers the next time.
		if list, err := Services(ctx, admin); err == nil {
			_ = p.WriteHosts(namespace, list) // tried again at the next tick
			if first != nil && len(list) > 0 {
				close(first)
				first = nil
			}
		}
		wait := steady
		if first != nil {
			wait = start
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}
