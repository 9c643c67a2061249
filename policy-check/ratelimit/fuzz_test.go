package ratelimit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// FuzzParse reads any file, and asks what was read for a limit.
func FuzzParse(f *testing.F) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range scripts {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, block := range strings.Split(string(b), "\n> config")[1:] {
			_, block, _ = strings.Cut(block, "\n")
			text, _, _ := strings.Cut(block, "\n----\n")
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ds, problems := Parse("f.yaml", data)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || strings.ContainsRune(p.Reason, '\n') {
				t.Errorf("problem without a place, or of several lines: %q", p.Error())
			}
		}
		s := NewServer(Options{Headers: true})
		s.SetDomains(ds)
		for _, d := range ds {
			for _, r := range d.rules {
				if r.limit == nil || !r.unlimited && windowSeconds(r.limit.GetUnit()) == 0 {
					t.Fatalf("rule %s without a limit was accepted", r.path)
				}
			}
			for e := range d.root.exact {
				ask(t, s, request(d.Name, e.key, e.value))
			}
			for k := range d.root.keys {
				ask(t, s, request(d.Name, k, "any"))
			}
		}
	})
}

// FuzzRequest answers any bytes that are a request.
func FuzzRequest(f *testing.F) {
	for _, req := range []*rlsv3.RateLimitRequest{
		request("d", "user", "u"), request("d", "visitor", "v", "x", "y"), request("", "user", ""), request("unknown"), {Domain: "d"},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &rlsv3.RateLimitRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		s := NewServer(Options{Headers: true, MaxKeys: 2, Clock: func() time.Time { return time.Unix(1_700_000_000, 0) }})
		s.SetDomains(mustParse(t, perUser))
		for range 2 {
			resp, err := s.ShouldRateLimit(t.Context(), req)
			if err != nil {
				if status.Code(err) != codes.InvalidArgument {
					t.Fatalf("error %v", err)
				}
				return
			}
			checkResponse(t, req, resp)
		}
	})
}

// checkResponse holds for every answer.
func checkResponse(t *testing.T, req *rlsv3.RateLimitRequest, resp *rlsv3.RateLimitResponse) {
	if len(resp.GetStatuses()) != len(req.GetDescriptors()) {
		t.Fatalf("%d statuses for %d descriptors", len(resp.GetStatuses()), len(req.GetDescriptors()))
	}
	over := false
	for _, st := range resp.GetStatuses() {
		over = over || st.GetCode() == rlsv3.RateLimitResponse_OVER_LIMIT
		l := st.GetCurrentLimit()
		if l == nil {
			continue
		}
		reset := st.GetDurationUntilReset().AsDuration()
		if st.GetLimitRemaining() > l.GetRequestsPerUnit() || reset <= 0 || reset > time.Duration(windowSeconds(l.GetUnit()))*time.Second {
			t.Fatalf("status %v", st)
		}
	}
	if over != (resp.GetOverallCode() == rlsv3.RateLimitResponse_OVER_LIMIT) {
		t.Fatalf("overall %v of %v", resp.GetOverallCode(), resp.GetStatuses())
	}
	if _, err := proto.Marshal(resp); err != nil {
		t.Fatalf("answer can't be sent: %v", err)
	}
}
