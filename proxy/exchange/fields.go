package exchange

import (
	"slices"
	"strings"
)

// Fields is a header of its own: what was set, in the order in which it was. It
// stands for the head that an opaque connection has none of. The zero value is
// empty. Names come in lower case, as with every Header.
type Fields struct{ list []Field }

var _ Header = (*Fields)(nil)

// All are the fields, valid until the next change.
func (f *Fields) All() []Field { return f.list }

// Get implements Header.
func (f *Fields) Get(name string) string {
	if i := f.index(name); i >= 0 {
		return f.list[i].Value
	}
	return ""
}

// At implements Header.
func (f *Fields) At(name string, i int) (value string, ok bool) {
	for j := range f.list {
		if strings.EqualFold(f.list[j].Name, name) {
			if i == 0 {
				return f.list[j].Value, true
			}
			i--
		}
	}
	return "", false
}

// Set implements Header. A field that is there already keeps its place.
func (f *Fields) Set(name, value string) {
	i := f.index(name)
	if i < 0 {
		f.Add(name, value)
		return
	}
	f.list[i].Value = value
	f.delete(i+1, name)
}

// Add implements Header.
func (f *Fields) Add(name, value string) { f.list = append(f.list, Field{Name: name, Value: value}) }

// Del implements Header.
func (f *Fields) Del(name string) { f.delete(0, name) }

// AppendHead implements Header.
func (f *Fields) AppendHead(dst []byte, most int) (out []byte, form HeadForm, whole bool) {
	limit := len(dst) + most
	for i := range f.list {
		if dst, whole = AppendHeadField(dst, f.list[i].Name, f.list[i].Value, limit-len(dst)); !whole {
			return dst, HeadList, false
		}
	}
	return dst, HeadList, true
}

func (f *Fields) delete(from int, name string) {
	rest := slices.DeleteFunc(f.list[from:], func(one Field) bool { return strings.EqualFold(one.Name, name) })
	f.list = f.list[:from+len(rest)]
}

func (f *Fields) index(name string) int {
	for i := range f.list {
		if strings.EqualFold(f.list[i].Name, name) {
			return i
		}
	}
	return -1
}
