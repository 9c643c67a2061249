package exchange

import "strings"

// Fields is a header of its own: what was set, in the order in which it was. It
// stands for the head that an opaque connection has none of. The zero value is
// empty. Names come in lower case, as with every Header.
type Fields struct{ list []Field }

var _ Header = (*Fields)(nil)

// All are the fields, valid until the next Set or Del.
func (f *Fields) All() []Field { return f.list }

// Get implements Header.
func (f *Fields) Get(name string) string {
	if i := f.index(name); i >= 0 {
		return f.list[i].Value
	}
	return ""
}

// Set implements Header. A field that is there already keeps its place.
func (f *Fields) Set(name, value string) {
	if i := f.index(name); i >= 0 {
		f.list[i].Value = value
		return
	}
	f.list = append(f.list, Field{Name: name, Value: value})
}

// Del implements Header.
func (f *Fields) Del(name string) {
	if i := f.index(name); i >= 0 {
		f.list = append(f.list[:i], f.list[i+1:]...)
	}
}

func (f *Fields) index(name string) int {
	for i := range f.list {
		if strings.EqualFold(f.list[i].Name, name) {
			return i
		}
	}
	return -1
}
