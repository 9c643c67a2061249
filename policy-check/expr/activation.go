package expr

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// activation shows one request to cel-go.
type activation struct {
	source Source
	names  map[string]Attribute
}

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if at, ok := a.names[name]; ok {
		return types.String(a.source.Attribute(at)), true
	}
	if name == headers {
		return headerMap{a.source}, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

// headerMap is the request's headers as a CEL map that is never built: it can
// be asked for a name, not walked. The compiler refuses expressions that would.
type headerMap struct{ source Source }

var _ traits.Mapper = headerMap{}

// Find implements traits.Mapper. An empty header counts as missing.
func (h headerMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	v := h.source.Header(string(name))
	if v == "" {
		return nil, false
	}
	return types.String(v), true
}

// Get implements traits.Indexer.
func (h headerMap) Get(key ref.Val) ref.Val {
	if v, ok := h.Find(key); ok || v != nil {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Contains implements traits.Container.
func (h headerMap) Contains(key ref.Val) ref.Val {
	v, ok := h.Find(key)
	if v != nil && !ok {
		return v
	}
	return types.Bool(ok)
}

// Iterator implements traits.Iterable, over nothing.
func (h headerMap) Iterator() traits.Iterator {
	it, _ := types.NewStringStringMap(types.DefaultTypeAdapter, nil).(traits.Iterable)
	return it.Iterator()
}

// Size implements traits.Sizer.
func (h headerMap) Size() ref.Val { return types.IntZero }

// ConvertToNative implements ref.Val.
func (h headerMap) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("convert request headers to %v: not supported", t)
}

// ConvertToType implements ref.Val.
func (h headerMap) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("convert request headers to %s: not supported", t.TypeName())
}

// Equal implements ref.Val.
func (h headerMap) Equal(ref.Val) ref.Val { return types.False }

// Type implements ref.Val.
func (h headerMap) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (h headerMap) Value() any { return h.source }
