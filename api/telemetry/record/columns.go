package record

// The accessors below hand a column out as it is stored, for readers that work
// by column and build no rows. What they return belongs to the block: it must
// not be changed. A column that the sender left out, or sent in another form, is
// nil and stands for zero values.

// Ints is a column of integers, one for each row. ColStart is to be read as
// int64.
func (c *Columns) Ints(number int) []uint64 { return c.cols[number].ints }

// Fixed is a column of width bytes for each row.
func (c *Columns) Fixed(number, width int) []byte {
	if f := &c.cols[number]; f.width == width {
		return f.fixed
	}
	return nil
}

// Texts is a column of texts: its dictionary, and for each row a place in it.
// That of ColAttributes is to be read with SplitAttributes.
func (c *Columns) Texts(number int) (dict []string, codes []uint32) {
	return c.cols[number].dict, c.cols[number].codes
}

// SplitAttributes reads an entry of the dictionary of ColAttributes. It keeps
// what it can read, and is nil if there is nothing.
func SplitAttributes(s string) map[string]string { return splitAttributes(s) }

// JoinAttributes is the reverse: equal maps give equal texts, an empty one the
// empty text.
func JoinAttributes(m map[string]string) string { return joinAttributes(m) }
