package main

import (
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// TestTheRulesFindWhatIsWrong: a soak that passes says something only if each of
// its rules can fail.
func TestTheRulesFindWhatIsWrong(t *testing.T) {
	record := func(code uint32, flags string, attempts uint32) *topologyv1.Record {
		return &topologyv1.Record{Code: code, Flags: flags, Attempts: attempts}
	}
	both := func(r *topologyv1.Record) records {
		return records{source: []*topologyv1.Record{r}, destination: []*topologyv1.Record{record(r.Code, r.Flags, 1)}}
	}
	answered := call{kind: "http get", method: "GET", grpc: -1, status: 200, ok: true}
	posted := answered
	posted.method = "POST"
	failed := call{kind: "http get", method: "GET", grpc: -1, status: 503}
	stream := call{kind: "grpc unary", method: "POST", grpc: 14, status: 200}
	opaque := call{kind: "tcp", grpc: -1, ok: true}
	unavailable := record(200, "UC", 1)
	unavailable.GRPCStatus = "14"
	for name, tc := range map[string]struct {
		c     call
		r     records
		seen  int
		owed  bool
		wrong bool
	}{
		"answered":                                     {answered, both(record(200, "", 1)), 1, false, false},
		"answered, never seen":                         {answered, both(record(200, "", 1)), 0, false, true},
		"answered, no record":                          {answered, records{}, 1, false, true},
		"answered, two records":                        {answered, records{source: []*topologyv1.Record{record(200, "", 1), record(200, "", 1)}}, 1, false, true},
		"answered, no record of the callee":            {answered, records{source: []*topologyv1.Record{record(200, "", 1)}}, 1, false, true},
		"answered, another status recorded":            {answered, both(record(500, "", 1)), 1, false, true},
		"answered, yet flagged":                        {answered, both(record(200, "UC", 1)), 1, false, true},
		"seen twice in two attempts":                   {answered, both(record(200, "", 2)), 2, false, false},
		"seen twice in one attempt":                    {answered, both(record(200, "", 1)), 2, false, true},
		"a POST seen twice":                            {posted, both(record(200, "", 2)), 2, false, true},
		"failed at a kill":                             {failed, both(record(503, "UF", 1)), 0, true, false},
		"failed while the application ran":             {failed, both(record(503, "UF", 1)), 0, false, true},
		"failed without a flag":                        {failed, both(record(503, "", 1)), 0, true, true},
		"gRPC failed at a kill":                        {stream, both(unavailable), 1, true, false},
		"gRPC failed, recorded as an answer":           {stream, both(record(200, "", 1)), 1, true, true},
		"an opaque session":                            {opaque, records{}, 1, false, false},
		"an opaque session that was opened once more":  {opaque, records{}, 2, false, true},
		"an opaque session that went to somebody else": {opaque, records{}, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := &verdict{flags: map[string]int{}}
			if v.check(&tc.c, tc.r, tc.seen, tc.owed); (v.wrongs > 0) != tc.wrong {
				t.Errorf("wrong %q, want some: %v", v.wrong, tc.wrong)
			}
		})
	}
}

func TestOnlyAKillExcusesAFailure(t *testing.T) {
	at := time.Now()
	c := &call{began: at, ended: at.Add(time.Second)}
	for name, tc := range map[string]struct {
		what     string
		from, to time.Duration
		want     bool
	}{
		"a kill in its time":   {kill, 100 * time.Millisecond, 200 * time.Millisecond, true},
		"a kill just before":   {kill, -300 * time.Millisecond, -100 * time.Millisecond, true},
		"a kill long before":   {kill, -3 * time.Second, -2 * time.Second, false},
		"a kill afterwards":    {kill, 2 * time.Second, 3 * time.Second, false},
		"a stall in its time":  {stall, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"a stall of a sidecar": {stallSidecar, 100 * time.Millisecond, 200 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := owed(c, []disturbance{{tc.what, at.Add(tc.from), at.Add(tc.to)}}); got != tc.want {
				t.Errorf("owed is %v, want %v", got, tc.want)
			}
		})
	}
}
