package files

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/folder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func text(name, limit string) string {
	return `apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ` + name + `}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - {name: all, limit: {rates: [{limit: ` + limit + `, window: 1s}]}}
`
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// state is a snapshot in words: what is in force, and what is wrong.
func state(s Snapshot) (inForce, wrong []string) {
	for _, l := range s.Policies {
		inForce = append(inForce, l.File+" "+l.Policy.ID()+": "+strings.Join(l.Policy.Summaries(), "; "))
	}
	for _, e := range s.Errors {
		wrong = append(wrong, e.Error())
	}
	return inForce, wrong
}

func expect(t *testing.T, s Snapshot, inForce, wrong []string) {
	t.Helper()
	gotForce, gotWrong := state(s)
	if diff := cmp.Diff(inForce, gotForce); diff != "" {
		t.Errorf("in force: %s", diff)
	}
	if diff := cmp.Diff(wrong, gotWrong); diff != "" {
		t.Errorf("errors: %s", diff)
	}
}

func TestAFileWithAnErrorLeavesItsLastGoodPoliciesInForce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", text("a", "50"))
	write(t, dir, "b.yml", text("b", "7"))
	write(t, dir, "notes.txt", "not a policy")
	d := NewDirectory(dir, nil)
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	a := "a.yaml default/a: 50 requests per 1s, burst 2"
	b := "b.yml default/b: 7 requests per 1s, burst 1"
	expect(t, d.Snapshot(), []string{a, b}, nil)

	write(t, dir, "a.yaml", text("a", "fifty"))
	err := d.Load()
	var refused *policy.ParseError
	if !errors.As(err, &refused) || refused.Line != 7 {
		t.Errorf("Load: %v", err)
	}
	problem := `a.yaml:7:41: rate.limit must be a whole number, is "fifty"`
	expect(t, d.Snapshot(), []string{a, b}, []string{problem})

	// The error stays while the file does, and is not counted again.
	if err := d.Load(); err == nil {
		t.Error("second Load: no error")
	}
	if s := d.Snapshot(); s.Accepted != 2 || s.Refused != 1 {
		t.Errorf("accepted %d, refused %d", s.Accepted, s.Refused)
	}

	write(t, dir, "a.yaml", text("a", "60"))
	if err := d.Load(); err != nil {
		t.Error(err)
	}
	expect(t, d.Snapshot(), []string{"a.yaml default/a: 60 requests per 1s, burst 3", b}, nil)

	if err := os.Remove(filepath.Join(dir, "b.yml")); err != nil {
		t.Fatal(err)
	}
	if err := d.Load(); err != nil {
		t.Error(err)
	}
	expect(t, d.Snapshot(), []string{"a.yaml default/a: 60 requests per 1s, burst 3"}, nil)
}

func TestAPolicyInTwoFilesStaysWhereItWas(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "m.yaml", text("x", "1"))
	write(t, dir, "z.yaml", text("y", "1")+"---\n"+text("x", "2"))
	d := NewDirectory(dir, nil)
	if err := d.Load(); err == nil {
		t.Error("no error")
	}
	m := "m.yaml default/x: 1 request per 1s, burst 1"
	y := "z.yaml default/y: 1 request per 1s, burst 1"
	z := "z.yaml:9:1: policy default/x is already defined in m.yaml"
	expect(t, d.Snapshot(), []string{m, y}, []string{z})

	write(t, dir, "a.yaml", text("x", "3"))
	if err := d.Load(); err == nil {
		t.Error("no error")
	}
	expect(t, d.Snapshot(), []string{m, y}, []string{"a.yaml:1:1: policy default/x is already defined in m.yaml", z})

	if err := os.Remove(filepath.Join(dir, "m.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := d.Load(); err == nil {
		t.Error("no error")
	}
	expect(t, d.Snapshot(), []string{"a.yaml default/x: 3 requests per 1s, burst 1", y},
		[]string{"z.yaml:9:1: policy default/x is already defined in a.yaml"})
}

func TestAnUnreadableDirectoryChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.yaml", text("a", "1"))
	d := NewDirectory(dir, nil)
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	if err := d.Load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if n := len(d.Snapshot().Policies); n != 1 {
		t.Errorf("%d policies in force, want 1", n)
	}
}

func TestRunSeesChangesAndSignalsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := NewDirectory(dir, nil)
		changes, stop := d.Subscribe()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()

		write(t, dir, "a.yaml", text("a", "1"))
		<-changes
		if n := len(d.Snapshot().Policies); n != 1 {
			t.Errorf("%d policies in force, want 1", n)
		}
		time.Sleep(5*folder.DefaultInterval + folder.DefaultInterval/2) // between two looks
		select {
		case <-changes:
			t.Error("signalled without a change")
		default:
		}
		// A file between its truncation and its first byte is no new version.
		write(t, dir, "a.yaml", "")
		time.Sleep(folder.DefaultInterval/2 - folder.Settle/2) // one look falls in between: changes come folder.Settle after a tick
		write(t, dir, "a.yaml", "nonsense")
		<-changes
		if s := d.Snapshot(); len(s.Policies) != 1 || s.Refused != 1 {
			t.Errorf("after an error: %+v", s)
		}
		stop()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRunOutlivesAMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	ticks := make(chan time.Time)
	d := NewDirectory(dir, nil, WithTicker(func(time.Duration) (<-chan time.Time, func()) { return ticks, func() {} }))
	changes, stop := d.Subscribe()
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	ticks <- time.Time{}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.yaml", text("a", "1"))
	ticks <- time.Time{}
	<-changes
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func accessText(name, spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

func TestIstiosAccessPoliciesStandBesideOurs(t *testing.T) {
	dir := t.TempDir()
	d := NewDirectory(dir, nil)
	inForce := func() (out []string) {
		s := d.Snapshot()
		for _, l := range s.Policies {
			out = append(out, l.File+" "+l.Policy.ID())
		}
		for _, l := range s.Access {
			out = append(out, l.File+" "+l.Resource.ID()+" "+l.Resource.Authorization.Action)
		}
		return out
	}
	write(t, dir, "a.yaml", text("p", "1")+"---\n"+accessText("p", "{}"))
	write(t, dir, "b.yaml", accessText("p", "{}"))
	err := d.Load()
	if err == nil || !strings.Contains(err.Error(), "b.yaml:1:1: policy authorizationpolicy/default/p is already defined in a.yaml") {
		t.Errorf("error %v, want that b.yaml repeats a name", err)
	}
	want := []string{"a.yaml default/p", "a.yaml authorizationpolicy/default/p ALLOW"}
	if diff := cmp.Diff(want, inForce()); diff != "" {
		t.Error(diff)
	}
	// One problem refuses the file whole, whichever kind has it.
	for _, broken := range []string{
		text("p", "2") + "---\n" + accessText("p", "{acton: DENY}"),
		text("p", "x") + "---\n" + accessText("p", "{action: DENY, rules: [{}]}"),
	} {
		write(t, dir, "a.yaml", broken)
		if err := d.Load(); err == nil {
			t.Errorf("no error in\n%s", broken)
		}
		if diff := cmp.Diff(want, inForce()); diff != "" {
			t.Error(diff)
		}
	}
	write(t, dir, "a.yaml", accessText("p", "{action: DENY, rules: [{}]}"))
	_ = d.Load()
	if diff := cmp.Diff([]string{"a.yaml authorizationpolicy/default/p DENY"}, inForce()); diff != "" {
		t.Error(diff)
	}
}
