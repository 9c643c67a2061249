// Package version says which telemesh this is.
package version

import "runtime/debug"

// Number is the released version, set by the release's commit.
const Number = "0.1.0"

// String is the version with the commit it was built from, if the build knows.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Number
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 7 {
			return Number + "+" + s.Value[:7]
		}
	}
	return Number
}
