package sql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted // an identifier in double quotes
	tokenNumber
	tokenText
	tokenSign
)

// token of a query. The text of a word is in lower case, that of a literal what
// it stands for.
type token struct {
	kind     tokenKind
	text     string
	from, to int // bytes
}

// signs of more than one byte stand before those that they begin with.
var signs = []string{"<>", "!=", "<=", ">=", "||", "::", "//", "==", "(", ")", "[", "]", ",", ";", "+", "-", "*", "/", "%", "=", "<", ">", "."}

// lex cuts a query into tokens; the last is the end.
func lex(text string) ([]token, error) {
	var list []token
	for at := 0; ; {
		var err error
		if at, err = skipSpace(text, at); err != nil {
			return nil, err
		}
		if at == len(text) {
			return append(list, token{tokenEnd, "", at, at}), nil
		}
		t, err := lexOne(text, at)
		if err != nil {
			return nil, err
		}
		list, at = append(list, t), t.to
	}
}

// skipSpace passes over blanks and comments.
func skipSpace(text string, at int) (int, error) {
	for at < len(text) {
		r, n := utf8.DecodeRuneInString(text[at:])
		switch {
		case unicode.IsSpace(r):
			at += n
		case strings.HasPrefix(text[at:], "--"):
			if end := strings.IndexByte(text[at:], '\n'); end >= 0 {
				at += end + 1
			} else {
				at = len(text)
			}
		case strings.HasPrefix(text[at:], "/*"):
			end := strings.Index(text[at+2:], "*/")
			if end < 0 {
				return 0, &Error{posAt(text, at), "the comment has no end: add */"}
			}
			at += end + 4
		default:
			return at, nil
		}
	}
	return at, nil
}

func lexOne(text string, at int) (token, error) {
	r, _ := utf8.DecodeRuneInString(text[at:])
	switch {
	case r == '\'':
		return lexQuoted(text, at, '\'', tokenText)
	case r == '"':
		return lexQuoted(text, at, '"', tokenQuoted)
	case r >= '0' && r <= '9', r == '.' && at+1 < len(text) && text[at+1] >= '0' && text[at+1] <= '9':
		return lexNumber(text, at), nil
	case r == '_' || unicode.IsLetter(r):
		end := at
		for i, r := range text[at:] {
			if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				break
			}
			end = at + i + utf8.RuneLen(r)
		}
		return token{tokenWord, strings.ToLower(text[at:end]), at, max(end, at+1)}, nil
	}
	for _, s := range signs {
		if strings.HasPrefix(text[at:], s) {
			return token{tokenSign, s, at, at + len(s)}, nil
		}
	}
	return token{}, &Error{posAt(text, at), "no SQL begins with " + clip(string(r))}
}

// lexQuoted reads up to the closing quote; two stand for one.
func lexQuoted(text string, at int, quote byte, kind tokenKind) (token, error) {
	var b strings.Builder
	for i := at + 1; i < len(text); i++ {
		if text[i] != quote {
			b.WriteByte(text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return token{kind, b.String(), at, i + 1}, nil
	}
	return token{}, &Error{posAt(text, at), "the text that begins here has no end: add " + string(quote)}
}

func lexNumber(text string, at int) token {
	digits := func(i int) int {
		for i < len(text) && (text[i] >= '0' && text[i] <= '9' || text[i] == '_') {
			i++
		}
		return i
	}
	end := digits(at)
	if end < len(text) && text[end] == '.' {
		end = digits(end + 1)
	}
	if end < len(text) && (text[end] == 'e' || text[end] == 'E') {
		exponent := end + 1
		if exponent < len(text) && (text[exponent] == '+' || text[exponent] == '-') {
			exponent++
		}
		if after := digits(exponent); after > exponent {
			end = after
		}
	}
	return token{tokenNumber, strings.ReplaceAll(text[at:end], "_", ""), at, end}
}
