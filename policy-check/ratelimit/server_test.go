package ratelimit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/folder"
)

// mustParse is a configuration without a problem.
func mustParse(t testing.TB, text string) []*Domain {
	t.Helper()
	ds, problems := Parse("test.yaml", []byte(text))
	for _, p := range problems {
		t.Fatal(p)
	}
	return ds
}

func request(domain string, keyValues ...string) *rlsv3.RateLimitRequest {
	d := &commonv3.RateLimitDescriptor{}
	for i := 0; i < len(keyValues); i += 2 {
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: keyValues[i], Value: keyValues[i+1]})
	}
	return &rlsv3.RateLimitRequest{Domain: domain, Descriptors: []*commonv3.RateLimitDescriptor{d}}
}

func ask(t testing.TB, s *Server, req *rlsv3.RateLimitRequest) *rlsv3.RateLimitResponse {
	t.Helper()
	resp, err := s.ShouldRateLimit(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

const perUser = `
domain: d
descriptors:
- key: user
  rate_limit: {unit: hour, requests_per_unit: 5}
- key: visitor
  rate_limit: {unit: hour, requests_per_unit: 5}
`

func TestKeysBeyondTheMostFollowTheOverflow(t *testing.T) {
	for _, tc := range []struct {
		overflow string
		// admitted of 10 hits of one new key, then of another.
		first, second int
	}{
		{policy.OverflowSharedBucket, 5, 0},
		{policy.OverflowAllow, 10, 10},
		{policy.OverflowDeny, 0, 0},
	} {
		t.Run(tc.overflow, func(t *testing.T) {
			s := NewServer(Options{MaxKeys: 10, Overflow: tc.overflow, Clock: func() time.Time { return time.Unix(0, 0) }})
			s.SetDomains(mustParse(t, perUser))
			for i := range 10 {
				ask(t, s, request("d", "user", fmt.Sprint(i)))
			}
			admitted := func(key, value string) (n int) {
				for range 10 {
					if ask(t, s, request("d", key, value)).GetOverallCode() == rlsv3.RateLimitResponse_OK {
						n++
					}
				}
				return n
			}
			if n := admitted("user", "new"); n != tc.first {
				t.Errorf("%d hits of the first new key admitted, want %d", n, tc.first)
			}
			if n := admitted("user", "newer"); n != tc.second {
				t.Errorf("%d hits of the second new key admitted, want %d", n, tc.second)
			}
			if n := admitted("visitor", "new"); n != tc.first {
				t.Errorf("%d hits of another rule's new key admitted, want %d", n, tc.first)
			}
			if n := admitted("user", "0"); n != 4 {
				t.Errorf("%d more hits of a known key admitted, want 4", n)
			}
			if st := s.Stats(); st.Overflowed != 30 || st.Keys > 12 {
				t.Errorf("%d hits overflowed, %d keys; want 30, and two more than 10 at most", st.Overflowed, st.Keys)
			}
		})
	}
}

func TestALimitIsExactUnderConcurrentRequests(t *testing.T) {
	s := NewServer(Options{Clock: func() time.Time { return time.Unix(0, 0) }})
	ds := mustParse(t, "domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: hour, requests_per_unit: 1000}\n")
	s.SetDomains(ds)
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				if i%50 == 0 {
					s.SetDomains(ds) // a reload changes nothing
					s.Stats()
				}
				if ask(t, s, request("d", "k", "v")).GetOverallCode() == rlsv3.RateLimitResponse_OK {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 1000 {
		t.Errorf("%d of 4000 admitted, want 1000", n)
	}
	st := s.Stats()
	if h := st.Hits[0]; h.Within != 1000 || h.Over != 3000 || h.Near != 200 {
		t.Errorf("stats: %+v", h)
	}
}

func TestValuesInMetricsAreBounded(t *testing.T) {
	s := NewServer(Options{})
	s.SetDomains(mustParse(t, "domain: d\ndescriptors:\n- key: k\n  detailed_metric: true\n  rate_limit: {unit: hour, requests_per_unit: 1}\n"))
	for i := range maxSeries + 100 {
		ask(t, s, request("d", "k", fmt.Sprint(i)))
	}
	hits := s.Stats().Hits
	var other, sum uint64
	for _, h := range hits {
		sum += h.Within
		if h.Rule == OtherRules {
			other = h.Within
		}
	}
	if len(hits) > maxSeries+1 || other < 100 || sum != maxSeries+100 {
		t.Errorf("%d series, %d hits of %d in %q; want at most %d, and at least 100 of %d", len(hits), other, sum, OtherRules, maxSeries+1, maxSeries+100)
	}
}

func TestALaterConfigurationKeepsWindowsAndCounters(t *testing.T) {
	s := NewServer(Options{Clock: func() time.Time { return time.Unix(0, 0) }})
	s.SetDomains(mustParse(t, perUser))
	for range 5 {
		ask(t, s, request("d", "user", "u"))
	}
	s.SetDomains(mustParse(t, "domain: other\ndescriptors:\n- key: a\n  rate_limit: {unit: hour, requests_per_unit: 1}\n"))
	if st := ask(t, s, request("d", "user", "u")).GetStatuses()[0]; st.GetCurrentLimit() != nil {
		t.Errorf("a domain that is gone has a limit: %v", st)
	}
	s.SetDomains(mustParse(t, perUser))
	if c := ask(t, s, request("d", "user", "u")).GetOverallCode(); c != rlsv3.RateLimitResponse_OVER_LIMIT {
		t.Errorf("the window of a limit that came back: %v", c)
	}
	for _, h := range s.Stats().Hits {
		if h.Domain == "d" && h.Rule == "user" && (h.Within != 5 || h.Over != 1) {
			t.Errorf("counters of a limit that came back: %+v", h)
		}
	}
}

func TestRunForgetsEndedWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(Options{})
		s.SetDomains(mustParse(t, "domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: minute, requests_per_unit: 1}\n"))
		for i := range 1000 {
			ask(t, s, request("d", "k", fmt.Sprint(i)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(2 * time.Minute)
		if n := s.Stats().Keys; n != 0 {
			t.Errorf("%d keys two minutes later, want none", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestADirectoryOfConfigurations(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "domain: a\ndescriptors: []\n")
	write("b.yaml", "domain: a\ndescriptors: []\n")
	d := folder.New(dir, Format(), nil, nil)
	if err := d.Load(); err == nil || err.Error() != "b.yaml:1:1: rate limit domain a is already defined in a.yaml" {
		t.Errorf("the same domain twice: %v", err)
	}
	write("a.yaml", "domain: a\nlimits: []\n")
	write("b.yaml", "# nothing\n")
	err := d.Load()
	if want := `a.yaml:2:1: file has no field "limits" (allowed: domain, descriptors)`; err == nil || err.Error() != want {
		t.Errorf("an unknown field: %v, want %s", err, want)
	}
	if s := d.Snapshot(); len(s.Loaded) != 1 || s.Loaded[0].File != "a.yaml" || s.Loaded[0].Value.Name != "a" {
		t.Errorf("in force: %+v, want the last good a", s.Loaded)
	}
}

func TestAFileOfAliasesOfAliasesIsRefused(t *testing.T) {
	text := "domain: d\ndescriptors:\n- &l1 {key: a, descriptors: [{key: b}, {key: c}]}\n"
	for i := 2; i < 40; i++ {
		text += fmt.Sprintf("- &l%d {key: k%d, descriptors: [*l%d, {key: x, descriptors: [*l%d]}]}\n", i, i, i-1, i-1)
	}
	ds, problems := Parse("bomb.yaml", []byte(text))
	if len(ds) > 0 || len(problems) == 0 {
		t.Errorf("read: %d domains, %v", len(ds), problems)
	}
}

// TestTenMillionKeys measures what the process holds for 10 million keys. It
// takes 3 GB for a moment and is not for every run.
func TestTenMillionKeys(t *testing.T) {
	if os.Getenv("TELEMESH_TEN_MILLION") == "" {
		t.Skip("TELEMESH_TEN_MILLION=1 runs it")
	}
	const keys = 10_000_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := NewServer(Options{MaxKeys: keys, Clock: func() time.Time { return time.Unix(0, 0) }})
	s.SetDomains(mustParse(t, perUser))
	for i := range keys {
		ask(t, s, request("d", "user", fmt.Sprint(i)))
	}
	st := s.Stats()
	perKey := float64(heap()-before) / keys
	t.Logf("%d keys: %.1f bytes each in the heap, %.1f in tables", st.Keys, perKey, float64(st.Bytes)/keys)
	if st.Keys != keys || perKey > 64 {
		t.Errorf("%d keys of %.1f bytes each, want %d of at most 64", st.Keys, perKey, keys)
	}
	runtime.KeepAlive(s)
}

func BenchmarkShouldRateLimit(b *testing.B) {
	s := NewServer(Options{})
	s.SetDomains(mustParse(b, perUser))
	reqs := make([]*rlsv3.RateLimitRequest, 10_000)
	for i := range reqs {
		reqs[i] = request("d", "user", fmt.Sprint(i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		ask(b, s, reqs[i%len(reqs)])
	}
}
