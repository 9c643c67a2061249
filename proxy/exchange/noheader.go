package exchange

// NoHeader is the header of what has none, such as an opaque connection: it
// holds nothing and keeps nothing.
type NoHeader struct{}

// Get implements Header.
func (NoHeader) Get(string) string { return "" }

// Set implements Header.
func (NoHeader) Set(_, _ string) {}

// Del implements Header.
func (NoHeader) Del(string) {}
