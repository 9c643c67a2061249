package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"CODE=7"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestExitCode(t *testing.T) {
	if code := shell(t, "exit $CODE").ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	p := shell(t, "read x < /dev/null; exec sleep 1000")
	p.Kill()
	if code := p.ExitCode(); code != 128+9 || p.Err() == nil {
		t.Errorf("exit code %d, error %v; want 137 and an error", code, p.Err())
	}
}

func TestStop(t *testing.T) {
	p := shell(t, "exec sleep 1000")
	p.Stop(time.Minute)
	if code := p.ExitCode(); code != 128+15 {
		t.Errorf("exit code %d, want 143", code)
	}
	p.Stop(time.Minute) // twice is safe
}

func TestStartNamesTheProgram(t *testing.T) {
	if _, err := Start(Spec{Name: "child", Path: "/no/such/program"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestAddresses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready.json")
	p := shell(t, "echo '{\"http\":\"127.0.0.1:1\"}' > '"+file+".new'; mv '"+file+".new' '"+file+"'; exec sleep 1000")
	got, err := p.Addresses(t.Context(), file)
	if err != nil || got["http"] != "127.0.0.1:1" {
		t.Errorf("addresses %v, error %v", got, err)
	}
	if _, err := shell(t, "exit 1").Addresses(t.Context(), file+".never"); !errors.Is(err, ErrEnded) {
		t.Errorf("error %v, want that it ended", err)
	}
}
