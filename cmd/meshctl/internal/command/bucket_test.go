package command

import (
	"strings"
	"testing"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

func TestStatusSaysWhatTheBucketHas(t *testing.T) {
	for _, tc := range []struct {
		name   string
		bucket *topologyv1.BucketStatus
		want   []string
	}{
		{"none", nil, nil},
		{"good", &topologyv1.BucketStatus{Hub: "host-a1b2c3", Segments: 1, Records: 12, Bytes: 480, Waiting: 2},
			[]string{"12 records of all hubs in 1 segment", "this hub is host-a1b2c3, 2 of its segments wait"}},
		{"away", &topologyv1.BucketStatus{Hub: "h", UploadFailures: 1, ReadFailures: 3}, []string{"1 upload and 3 reads failed", "its log says why"}},
	} {
		var l lines
		l.bucket(tc.bucket)
		got := l.b.String()
		if tc.want == nil && got != "" {
			t.Errorf("%s: %q, want nothing", tc.name, got)
		}
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q lacks %q", tc.name, got, want)
			}
		}
	}
}
