package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

// progressEvery is how often a long check says how far it is.
const progressEvery = 2 * time.Second

type storeDamage struct {
	File   string `json:"file"`
	Part   string `json:"part"` // column, index, footer, log or file
	Group  *int   `json:"rowGroup,omitempty"`
	Column string `json:"column,omitempty"`
	Reason string `json:"reason"`
	Costs  string `json:"costs"`
	Next   string `json:"next"`
}

type verifyDocument struct {
	SchemaVersion int           `json:"schemaVersion"`
	Quick         bool          `json:"quick"`
	Segments      int           `json:"segments"`
	Records       int           `json:"records"`
	Logs          int           `json:"logs"`
	Frames        uint64        `json:"frames"`
	Bytes         int64         `json:"bytes"`
	Reindexed     []string      `json:"reindexed"`
	Damage        []storeDamage `json:"damage"`
}

func (a *app) storeVerifyCommand() *cobra.Command {
	var quick, reindex bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read a record store whole and name all that is damaged",
		Long: `Read a record store whole and name all that is damaged, what it costs and what to do. Every value of
every segment is decoded and compared with the index, every frame of the logs with its checksum. With
--quick segments too are only compared with their checksums. The exit code is 2 if anything is damaged.`,
		Example: `  meshctl store verify /var/lib/mesh-hub/records
  meshctl store verify --quick /var/lib/mesh-hub/records
  meshctl store verify --reindex /var/lib/mesh-hub/records   # make new indexes where they are damaged`,
		Args: arguments(1, 1, "one DIR"),
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "compare only with checksums: footers, indexes, columns, frames")
	cmd.Flags().BoolVar(&reindex, "reindex", false, "make a new index for each segment whose index is damaged or missing")
	o := outputFlag(cmd, formatTable, formatJSON, formatYAML)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		files, err := listStore(args[0])
		if err != nil {
			return err
		}
		v, err := a.newStoreVerifier(files, quick, reindex)
		if err != nil {
			return err
		}
		defer v.decoder.Close()
		if err := v.run(cmd.Context(), files); err != nil {
			return err
		}
		done, err := o.document(a.Out, &v.doc, nil)
		if !done {
			err = writeVerify(a.Out, &v.doc, a.style())
		}
		if n := len(v.doc.Damage); err == nil && n > 0 {
			err = &ExitError{Code: CodeProblems, Err: fmt.Errorf("%s of damage in the store", render.Count(n, "place"))}
		}
		return err
	}
	return cmd
}

// storeVerifier is one run of the command.
type storeVerifier struct {
	*app
	doc           verifyDocument
	reindex       bool
	decoder       *segment.Decoder
	done, of      int64 // bytes
	began, toldAt time.Time
}

func (a *app) newStoreVerifier(files store.Files, quick, reindex bool) (*storeVerifier, error) {
	d, err := segment.NewDecoder()
	if err != nil {
		return nil, err
	}
	v := &storeVerifier{app: a, reindex: reindex, decoder: d, began: a.Now(), toldAt: a.Now()}
	v.doc = verifyDocument{SchemaVersion: topologyv1.SchemaVersion, Quick: quick, Reindexed: []string{}, Damage: []storeDamage{}}
	for _, f := range files.Segments {
		v.of += sizeOf(f.Path)
	}
	for _, f := range files.Logs {
		v.of += sizeOf(f.Path)
	}
	return v, nil
}

// sizeOf a file, 0 if it is gone.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (v *storeVerifier) run(ctx context.Context, files store.Files) error {
	for _, f := range files.Segments {
		size := sizeOf(f.Path)
		if err := v.segment(ctx, f.Path); err != nil {
			return err
		}
		v.progress(size)
	}
	for i, f := range files.Logs {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := sizeOf(f.Path)
		v.log(f, i == len(files.Logs)-1)
		v.progress(size)
	}
	return nil
}

// progress says now and then how far it is.
func (v *storeVerifier) progress(bytes int64) {
	v.done += bytes
	now := v.Now()
	if now.Sub(v.toldAt) < progressEvery || v.done >= v.of {
		return
	}
	v.toldAt = now
	left := time.Duration(float64(now.Sub(v.began)) * float64(v.of-v.done) / float64(v.done))
	fmt.Fprintf(v.Err, "verified %s of %s, about %s left\n", render.Bytes(uint64(v.done)), render.Bytes(uint64(v.of)), left.Round(time.Second))
}

// segment checks one segment. Damage is noted; an error ends the run.
func (v *storeVerifier) segment(ctx context.Context, path string) error {
	damage, err := v.check(ctx, path)
	if err != nil {
		return err
	}
	if v.reindex && repairable(damage) {
		if err := store.Reindex(ctx, path, v.decoder); err != nil {
			damage = append(damage, storeDamage{
				File: filepath.Base(path), Part: "file", Reason: "no new index can be made: " + err.Error(),
				Costs: "the index stays as it is", Next: "move both files of the segment out of the store, or restore them from a copy",
			})
		} else {
			v.doc.Reindexed = append(v.doc.Reindexed, filepath.Base(path))
			if damage, err = v.check(ctx, path); err != nil {
				return err
			}
		}
	}
	v.doc.Damage = append(v.doc.Damage, damage...)
	return nil
}

func repairable(damage []storeDamage) bool {
	for _, d := range damage {
		if d.Part == string(segment.PartIndex) {
			return true
		}
	}
	return false
}

// check opens and verifies a segment.
func (v *storeVerifier) check(ctx context.Context, path string) ([]storeDamage, error) {
	file := filepath.Base(path)
	r, err := store.OpenSegment(path, v.decoder)
	switch {
	case gone(path, err):
		v.warn("%s went away: the hub dropped or merged it", file)
		return nil, nil
	case errors.Is(err, segment.ErrCorrupt), errors.Is(err, fs.ErrNotExist):
		return []storeDamage{{
			File: file, Part: string(segment.PartIndex), Reason: err.Error(),
			Costs: "without its index the hub finds none of its records; DuckDB reads them",
			Next:  "run again with --reindex, or restart the hub, which does the same",
		}}, nil
	case err != nil:
		return []storeDamage{unreadable(file, err)}, nil
	}
	defer func() { _ = r.Close() }() // only read
	verify := r.Verify
	if v.doc.Quick {
		verify = r.VerifySums
	}
	list, others := segment.Damages(verify(ctx))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v.doc.Segments++
	v.doc.Records += r.Rows()
	v.doc.Bytes += r.Bytes
	var damage []storeDamage
	for _, d := range list {
		damage = append(damage, describe(file, d))
	}
	for _, err := range others {
		damage = append(damage, unreadable(file, err))
	}
	return damage, nil
}

func unreadable(file string, err error) storeDamage {
	return storeDamage{
		File: file, Part: "file", Reason: err.Error(), Costs: "what could not be read is not checked",
		Next: "see that the file is readable and its disk well (dmesg, smartctl), then run again",
	}
}

// describe says what damage costs and what to do.
func describe(file string, d *segment.Damage) storeDamage {
	out := storeDamage{File: file, Part: string(d.Part), Reason: d.Error()}
	switch d.Part {
	case segment.PartColumn:
		out.Group, out.Column = &d.Group, d.Column
		out.Costs = "queries that need this column pass over the row group, look-ups leave it empty; the other row groups are whole"
		out.Next = "restore both files of the segment from a copy, or keep it until retention drops it; look after the disk"
	case segment.PartIndex:
		out.Costs = "the records are whole; look-ups in this segment are slow or miss some"
		out.Next = "run again with --reindex and restart the hub"
	case segment.PartFooter:
		out.Costs = "DuckDB and others may refuse the file; the hub goes by the index and reads it"
		out.Next = "restore the Parquet file from a copy; the index is not to be removed, it alone knows where the row groups are"
	}
	return out
}

// log checks one log.
func (v *storeVerifier) log(f store.LogFile, last bool) {
	file := filepath.Base(f.Path)
	c, err := store.CheckLog(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return // dropped by the hub since
	}
	if err != nil {
		v.doc.Damage = append(v.doc.Damage, unreadable(file, err))
		return
	}
	v.doc.Logs++
	v.doc.Frames += c.Frames
	v.doc.Bytes += c.Bytes
	for _, d := range c.Damaged {
		if d.Torn && last {
			v.warn("%s ends in mid-write at byte %d: a hub is writing, or was killed; its next start cuts off what was never acknowledged", file, d.From)
			continue
		}
		v.doc.Damage = append(v.doc.Damage, logDamage(file, f.Sealed, d))
	}
}

func logDamage(file string, sealed bool, d store.LogDamage) storeDamage {
	out := storeDamage{
		File: file, Part: "log", Reason: fmt.Sprintf("bytes %d to %d: %v", d.From, d.To, d.Reason),
		Costs: "the batches that stood there are lost, those before and behind are whole",
		Next:  "nothing is to be done: sealing passes over it; look after the disk",
	}
	if sealed {
		out.Costs = "no record: they are sealed; after a restart the live graph lacks the counts of these batches"
	}
	return out
}

func writeVerify(w io.Writer, d *verifyDocument, s render.Style) error {
	for _, p := range d.Damage {
		place := p.File
		if p.Group != nil {
			place += fmt.Sprintf(", row group %d, column %s", *p.Group, p.Column)
		}
		fmt.Fprintf(w, "%s\n  %s: %s\n  costs: %s\n  next:  %s\n", s.Paint(render.Red, render.Clean(place)), p.Part, render.Clean(p.Reason), p.Costs, p.Next)
	}
	for _, f := range d.Reindexed {
		fmt.Fprintf(w, "%s has a new index; restart the hub if it runs\n", render.Clean(f))
	}
	how := "Every value was read"
	if d.Quick {
		how = "Checksums were compared"
	}
	verdict := "no damage"
	if n := len(d.Damage); n > 0 {
		verdict = render.Count(n, "place") + " of damage"
	}
	_, err := fmt.Fprintf(w, "%s: %s with %s, %s with %s, %s in all: %s.\n", how, render.Count(d.Segments, "segment"), render.Count(d.Records, "record"),
		render.Count(d.Logs, "log"), render.Count(int(d.Frames), "batch"), render.Bytes(uint64(d.Bytes)), verdict)
	return err
}
