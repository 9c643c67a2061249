package identity

import (
	"testing"
	"unicode/utf8"
)

// A header is whatever a caller sends; a certificate's name is whatever the
// authority signed.
func FuzzVerified(f *testing.F) {
	f.Add("", "")
	f.Add(Peer{Cluster: "c", Namespace: "default", Workload: "w", Service: "s", Version: "v1", Instance: "i;=%"}.Header(), "spiffe://mesh/ns/default/sa/s")
	f.Add("w=a;w=b;n=%2", "spiffe://mesh/ns/x/sa/y")
	f.Add("c=1;n=other;w=w;s=s", "spiffe://mesh/ns/default/sa/s")
	f.Fuzz(func(t *testing.T, header, principal string) {
		var c Cache
		p := c.Verified(header, principal)
		if p == nil {
			if principal != "" && len(header) <= maxHeaderBytes {
				t.Error("a peer with a certificate is nobody")
			}
			return
		}
		if c.Verified(header, principal) != p {
			t.Error("the same claim gave another peer")
		}
		if p.Principal != principal {
			t.Errorf("principal %q, want %q", p.Principal, principal)
		}
		if namespace := principalNamespace(principal); namespace != "" && p.Namespace != namespace {
			t.Errorf("namespace %q for the principal %q", p.Namespace, principal)
		}
		for _, text := range []string{p.Cluster, p.Namespace, p.Workload, p.Service, p.Version, p.Instance} {
			if principal == "" && !utf8.ValidString(text) {
				t.Errorf("%q is not UTF-8", text)
			}
		}
		if again := c.Parse(p.Header()); p.Workload != "" && len(p.Header()) <= maxHeaderBytes && (again == nil || again.Header() != p.Header()) {
			t.Errorf("%+v does not survive its own header: %+v", p, again)
		}
	})
}
