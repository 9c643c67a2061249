package command

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "store",
		Short: "Read the files of a hub's record store, without the hub",
		Long: `Read the files of a hub's record store, without the hub: DIR is the folder records of its data
directory, or a copy of it. The hub may run meanwhile; it waits for nothing.`,
		Example: `  meshctl store stats /var/lib/mesh-hub/records
  meshctl store verify /var/lib/mesh-hub/records
  meshctl store query /var/lib/mesh-hub/records 'select code, count(*) from records group by code'`,
	})
	cmd.AddCommand(a.storeStatsCommand(), a.storeVerifyCommand(), a.storeQueryCommand())
	return cmd
}

// listStore lists the files of the store in dir, or of the folder records in it.
func listStore(dir string) (store.Files, error) {
	files, err := store.ListFiles(dir)
	if err == nil {
		return files, nil
	}
	if below, errBelow := store.ListFiles(filepath.Join(dir, "records")); errBelow == nil {
		return below, nil
	}
	return files, &ExitError{
		Code: CodeFailure, Err: err,
		Hint: "name the folder `records` in the hub's data directory (mesh-hub --data-dir); a hub that has just started has a log there and, after some minutes, segments",
	}
}

// openStore opens the segments that are in use. Those that are gone since they
// were listed, because the hub dropped or merged them, are left out, and missing
// says how many. Errors are those of segments that cannot be opened; the
// caller closes the others.
func openStore(files store.Files, d *segment.Decoder) (opened []*store.SegmentReader, missing int, errs []error) {
	for _, f := range files.Segments {
		if f.Replaced {
			continue
		}
		r, err := store.OpenSegment(f.Path, d)
		switch {
		case err == nil:
			opened = append(opened, r)
		case gone(f.Path, err):
			missing++
		default:
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(f.Path), err))
		}
	}
	return opened, missing, errs
}

// gone reports that not only the index but the segment itself is missing.
func gone(path string, err error) bool {
	var p *fs.PathError
	return errors.Is(err, fs.ErrNotExist) && errors.As(err, &p) && p.Path == path
}

func closeStore(opened []*store.SegmentReader) {
	for _, r := range opened {
		_ = r.Close() // only read
	}
}

// warnMissing tells of segments that went away under the reader.
func (a *app) warnMissing(missing int) {
	if missing > 0 {
		a.warn("%s went away while they were opened: a hub is at work here; run the command again for the whole", render.Count(missing, "segment"))
	}
}
