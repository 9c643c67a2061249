package memory

import (
	"math"
	"runtime"
	"testing"
	"testing/fstest"
)

func TestChooseTakesTheFirstThatSaysSomething(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	limited := fstest.MapFS{
		"proc/self/cgroup":                       file("1:cpu:/a\n0::/pods/hub\n"),
		"sys/fs/cgroup/pods/hub/memory.max":      file("max\n"),
		"sys/fs/cgroup/pods/memory.max":          file("1000000000\n"),
		"sys/fs/cgroup/memory.max":               file("2000000000\n"),
		"sys/fs/cgroup/pods/hub/sub/memory.max":  file("1\n"),
		"sys/fs/cgroup/pods/hub/memory.swap.max": file("1\n"),
	}
	const unset = math.MaxInt64
	for name, c := range map[string]struct {
		flag, runtime int64
		root          fstest.MapFS
		want          Limit
	}{
		"the flag":                {100 << 20, 200 << 20, limited, Limit{100 << 20, "--memory-limit"}},
		"GOMEMLIMIT":              {0, 200 << 20, limited, Limit{200 << 20, "GOMEMLIMIT"}},
		"the smallest memory.max": {0, unset, limited, Limit{900_000_000, "/sys/fs/cgroup/pods/memory.max"}},
		"a tiny memory.max": {0, unset, fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("1048576\n"),
		}, Limit{Least, "/sys/fs/cgroup/memory.max"}},
		"no limit":          {0, unset, fstest.MapFS{"proc/self/cgroup": file("0::/a\n"), "sys/fs/cgroup/a/memory.max": file("max\n")}, Limit{}},
		"version 1 only":    {0, unset, fstest.MapFS{"proc/self/cgroup": file("4:memory:/a\n")}, Limit{}},
		"no cgroups at all": {0, unset, fstest.MapFS{}, Limit{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := choose(c.flag, c.runtime, c.root); err != nil || got != c.want {
				t.Errorf("choose = %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestUsageSeesWhatIsAliveAndNotWhatIsGarbage(t *testing.T) {
	u := NewUsage()
	runtime.GC()
	before, cycles := u.Read()
	kept := make([]byte, 64<<20)
	kept[0] = 1
	runtime.GC()
	with, later := u.Read()
	if with-before < 60<<20 || later <= cycles {
		t.Errorf("%d bytes more with 64 MiB alive, cycle %d after %d", with-before, later, cycles)
	}
	runtime.KeepAlive(kept)
	runtime.GC()
	runtime.GC()
	if after, _ := u.Read(); with-after < 60<<20 {
		t.Errorf("%d bytes less without them", with-after)
	}
}
