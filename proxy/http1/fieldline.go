package http1

import "bytes"

// parseFields reads the lines from p to the blank one.
func (h *head) parseFields(b []byte, p int) error {
	for {
		if len(b)-p >= 2 && b[p] == '\r' && b[p+1] == '\n' {
			h.size = p + 2
			return nil
		}
		f, ok := usualLine(b, p)
		if !ok {
			var err error
			if f, err = anyLine(b, p); err != nil {
				return err
			}
		}
		if len(h.fields) == maxFields {
			return errTooMany
		}
		name := f.name.of(b)
		if err := h.note(&f, name, f.value.of(b)); err != nil {
			return err
		}
		h.fields = append(h.fields, f)
		h.names |= nameBit(name)
		p = int(f.line.to)
	}
}

// usualLine reads the line at p in one pass if it is whole and there is nothing
// unusual about it; what it accepts, anyLine reads in the same way.
func usualLine(b []byte, p int) (f field, ok bool) {
	colon := p
	for colon < len(b) && class[b[colon]]&tokenByte != 0 {
		colon++
	}
	if colon == p || colon == len(b) || b[colon] != ':' {
		return f, false
	}
	from := colon + 1
	for from < len(b) && b[from] == ' ' {
		from++
	}
	end := from + controlIn(b[from:])
	if len(b)-end < 2 || b[end] != '\r' || b[end+1] != '\n' {
		return f, false
	}
	to := end
	for to > from && b[to-1] == ' ' {
		to--
	}
	return field{
		name: span{int32(p), int32(colon)}, value: span{int32(from), int32(to)}, line: span{int32(p), int32(end + 2)},
	}, true
}

// anyLine reads the line at p, which is not the blank one, or says what is wrong
// with it.
func anyLine(b []byte, p int) (f field, err error) {
	n := bytes.IndexByte(b[p:], '\n')
	if n < 0 {
		return f, errIncomplete
	}
	next := p + n + 1
	if n == 0 || b[next-2] != '\r' {
		return f, errBareLF
	}
	line := b[p : next-2]
	colon := 0
	for colon < len(line) && class[line[colon]]&tokenByte != 0 {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return f, nameError(line)
	}
	from, to := colon+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for to > from && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	if !isValue(line[from:to]) {
		return f, valueError(line[from:to])
	}
	return field{
		name: span{int32(p), int32(p + colon)}, value: span{int32(p + from), int32(p + to)}, line: span{int32(p), int32(next)},
	}, nil
}

func nameError(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return errFold
	}
	return errFieldName
}

func valueError(value []byte) error {
	if bytes.IndexByte(value, '\r') >= 0 {
		return errBareCR
	}
	return errFieldValue
}
