package http1

import (
	"unsafe"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// message is a head and the changes to it. It implements exchange.Header. Texts
// that Get returns are views, valid until the exchange ends.
type message struct {
	head
	raw   []byte // begins with the head
	edits []exchange.Field
}

var _ exchange.Header = (*message)(nil)

func (m *message) clear() {
	m.head.reset()
	m.renew(nil)
}

// renew is clear for a head that is about to be parsed.
func (m *message) renew(raw []byte) { m.raw, m.edits = raw, m.edits[:0] }

// Get implements exchange.Header: the first field of the name, in lower case.
func (m *message) Get(name string) string {
	for i := range m.edits {
		if m.edits[i].Name == name {
			return m.edits[i].Value
		}
	}
	if !m.mayHave(name) {
		return ""
	}
	for i := range m.fields {
		f := &m.fields[i]
		if int(f.name.to-f.name.from) == len(name) && !f.drop && is(f.name.of(m.raw), name) {
			return view(f.value.of(m.raw))
		}
	}
	return ""
}

// At implements exchange.Header: what was set comes first.
func (m *message) At(name string, i int) (value string, ok bool) {
	for j := range m.edits {
		if m.edits[j].Name == name {
			if i == 0 {
				return m.edits[j].Value, true
			}
			i--
		}
	}
	if !m.mayHave(name) {
		return "", false
	}
	for j := range m.fields {
		f := &m.fields[j]
		if int(f.name.to-f.name.from) == len(name) && !f.drop && is(f.name.of(m.raw), name) {
			if i == 0 {
				return view(f.value.of(m.raw)), true
			}
			i--
		}
	}
	return "", false
}

// mayHave is false if no field can have that name: most questions are for fields
// that are not there.
func (m *message) mayHave(name string) bool { return m.names&nameBit([]byte(name)) != 0 }

// Set implements exchange.Header. The value must stay valid as long as the
// exchange.
func (m *message) Set(name, value string) {
	m.Del(name)
	m.Add(name, value)
}

// Add implements exchange.Header. The value must stay valid as long as the
// exchange.
func (m *message) Add(name, value string) {
	m.edits = append(m.edits, exchange.Field{Name: name, Value: value})
}

// Del implements exchange.Header.
func (m *message) Del(name string) {
	for i := 0; i < len(m.edits); {
		if m.edits[i].Name == name {
			m.edits = append(m.edits[:i], m.edits[i+1:]...)
			continue
		}
		i++
	}
	if !m.mayHave(name) {
		return
	}
	for i := range m.fields {
		f := &m.fields[i]
		if int(f.name.to-f.name.from) == len(name) && is(f.name.of(m.raw), name) {
			f.drop = true
		}
	}
}

// AppendHead implements exchange.Header: the bytes as they came, or what was set
// if this is the sidecar's own answer.
func (m *message) AppendHead(dst []byte, most int) (out []byte, form exchange.HeadForm, whole bool) {
	if m.size > 0 && len(m.raw) >= m.size {
		n := min(m.size, most)
		return append(dst, m.raw[:n]...), exchange.HeadLines, n == m.size
	}
	limit := len(dst) + most
	for i := range m.edits {
		if dst, whole = exchange.AppendHeadField(dst, m.edits[i].Name, m.edits[i].Value, limit-len(dst)); !whole {
			return dst, exchange.HeadList, false
		}
	}
	return dst, exchange.HeadList, true
}

// dropped reads a field that does not go on, such as Upgrade.
func (m *message) dropped(name string) string {
	for i := range m.fields {
		if f := &m.fields[i]; is(f.name.of(m.raw), name) {
			return view(f.value.of(m.raw))
		}
	}
	return ""
}

// appendFields writes the fields that go on, in whole runs, then what was set.
func (m *message) appendFields(dst []byte) []byte {
	from := -1
	for i := range m.fields {
		f := &m.fields[i]
		switch {
		case f.drop && from >= 0:
			dst = append(dst, m.raw[from:f.line.from]...)
			from = -1
		case !f.drop && from < 0:
			from = int(f.line.from)
		}
	}
	if from >= 0 {
		dst = append(dst, m.raw[from:m.size-2]...)
	}
	for i := range m.edits {
		dst = appendField(dst, m.edits[i].Name, m.edits[i].Value)
	}
	return dst
}

// appendField writes one line. A value that could end its line early comes from
// a policy or a peer's name; its control bytes become spaces.
func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	from := len(dst)
	dst = append(dst, value...)
	if !isValue(dst[from:]) {
		blank(dst[from:])
	}
	return append(dst, "\r\n"...)
}

// blank overwrites what may not be in a field's value.
func blank(value []byte) {
	for i, c := range value {
		if class[c]&valueByte == 0 {
			value[i] = ' '
		}
	}
}

// appendRequest writes the request head for the next hop, in origin form and as
// HTTP/1.1: what the downstream speaks is between it and us.
func (m *message) appendRequest(dst []byte, upgrade string) []byte {
	if _, path := absolute(m.target.of(m.raw)); m.minor == 1 && path == nil {
		dst = append(dst, m.raw[:m.target.to]...)
	} else {
		dst = append(dst, m.method.of(m.raw)...)
		dst = append(dst, ' ')
		dst = append(dst, m.path()...)
	}
	dst = append(dst, " HTTP/1.1\r\n"...)
	dst = m.appendFields(dst)
	if upgrade != "" {
		dst = append(dst, "connection: upgrade\r\n"...)
		dst = appendField(dst, "upgrade", upgrade)
	}
	return append(dst, "\r\n"...)
}

// path is the target in origin form.
func (m *message) path() string {
	target := m.target.of(m.raw)
	authority, path := absolute(target)
	switch {
	case authority == nil:
		return view(target)
	case len(path) == 0:
		if string(m.method.of(m.raw)) == "OPTIONS" {
			return "*" // RFC 9112, section 3.2.4
		}
		return "/"
	case path[0] != '/':
		return "/" + string(path)
	}
	return view(path)
}

// authority is whom the request is for.
func (m *message) authority() string {
	target := m.target.of(m.raw)
	if string(m.method.of(m.raw)) == "CONNECT" {
		return view(target)
	}
	if authority, _ := absolute(target); authority != nil {
		return view(authority)
	}
	return view(m.host.of(m.raw))
}

// appendStatus writes the status line.
func (m *message) appendStatus(dst []byte) []byte {
	dst = append(dst, "HTTP/1.1"...)
	end := m.size - 2
	if len(m.fields) > 0 {
		end = int(m.fields[0].line.from)
	}
	return append(dst, m.raw[len("HTTP/1.1"):end]...)
}

// view is b as a string without a copy. It is valid as long as nobody writes to
// b, which for a head means until its exchange has ended.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
