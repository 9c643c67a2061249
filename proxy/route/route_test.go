package route

import (
	"testing"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

func table(endpoints ...*discoveryv1.Endpoint) *Table {
	t := NewTable("default", "local")
	t.Set([]*discoveryv1.Service{
		{Namespace: "default", Name: "reviews", Host: "reviews.default.svc.cluster.local", Port: 9080, Endpoints: endpoints},
		{Namespace: "other", Name: "ledger", Host: "ledger.other.svc.cluster.local"},
	})
	return t
}

func TestLookupTakesEveryDNSSpelling(t *testing.T) {
	tab := table()
	for _, host := range []string{
		"reviews", "reviews:9080", "Reviews:9080", "reviews.default", "reviews.default.svc:9080",
		"reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local.", "ledger.other",
	} {
		if _, ok := tab.Lookup(host); !ok {
			t.Errorf("Lookup(%q) finds nothing", host)
		}
	}
	for _, host := range []string{"ledger", "review", "", "example.com:80", "reviews.other"} {
		if c, ok := tab.Lookup(host); ok {
			t.Errorf("Lookup(%q) = %s, want nothing", host, c.Host)
		}
	}
}

func TestPickAvoidsUnreachableApplications(t *testing.T) {
	c, _ := table(
		&discoveryv1.Endpoint{Address: "127.0.0.1:1"},
		&discoveryv1.Endpoint{Address: "127.0.0.1:2", Healthy: true},
	).Lookup("reviews")
	for range 50 {
		if e := c.Pick(); e.Address != "127.0.0.1:2" {
			t.Fatalf("picked %s, whose application is unreachable", e.Address)
		}
	}
}

func TestPickTriesAnUnreachableOneWhenNoneIsLeft(t *testing.T) {
	c, _ := table(&discoveryv1.Endpoint{Address: "127.0.0.1:1"}).Lookup("reviews")
	if c.Pick() == nil {
		t.Error("picked nothing although an endpoint is known")
	}
	if empty, _ := table().Lookup("reviews"); empty.Pick() != nil {
		t.Error("picked an endpoint of an empty cluster")
	}
}

func TestPickSpreadsByLoad(t *testing.T) {
	c, _ := table(
		&discoveryv1.Endpoint{Address: "127.0.0.1:1", Healthy: true},
		&discoveryv1.Endpoint{Address: "127.0.0.1:2", Healthy: true},
	).Lookup("reviews")
	held := map[string]int{}
	for range 100 {
		held[c.Pick().Address]++ // never Done: load grows
	}
	if d := held["127.0.0.1:1"] - held["127.0.0.1:2"]; d < -20 || d > 20 {
		t.Errorf("100 held requests spread %v", held)
	}
}
