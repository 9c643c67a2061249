package authz

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestEveryFieldIsDocumented holds the table of docs/authorization.md against the
// types, and the keys of when against the compiler.
func TestEveryFieldIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/authorization.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := strings.Split(string(b), "`")
	seen := make(map[reflect.Type]bool)
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || seen[of] {
			return
		}
		seen[of] = true
		for i := range of.NumField() {
			if name := tagName(of.Field(i)); !slices.Contains(quoted, name) {
				t.Errorf("docs/authorization.md does not say `%s`, a field of %s", name, of.Name())
			}
			walk(of.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[AuthorizationPolicy]())
	walk(reflect.TypeFor[RequestAuthentication]())
	for key := range plainKeys {
		if !slices.Contains(quoted, key) {
			t.Errorf("docs/authorization.md does not say `%s`, a key of when", key)
		}
	}
}
