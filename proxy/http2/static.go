package http2

// staticTable is HPACK's (RFC 7541, appendix A); an entry's index is its place
// plus one.
var staticTable = [...]struct{ name, value string }{
	{":authority", ""},
	{":method", "GET"}, {":method", "POST"},
	{":path", "/"}, {":path", "/index.html"},
	{":scheme", "http"}, {":scheme", "https"},
	{":status", "200"}, {":status", "204"}, {":status", "206"}, {":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"},
	{"accept-charset", ""}, {"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
	{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""}, {"cache-control", ""},
	{"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""}, {"content-location", ""},
	{"content-range", ""}, {"content-type", ""}, {"cookie", ""}, {"date", ""}, {"etag", ""}, {"expect", ""}, {"expires", ""}, {"from", ""},
	{"host", ""}, {"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""}, {"if-unmodified-since", ""},
	{"last-modified", ""}, {"link", ""}, {"location", ""}, {"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""},
	{"range", ""}, {"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""}, {"strict-transport-security", ""},
	{"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""}, {"www-authenticate", ""},
}

type pair struct{ name, value string }

// staticPairs and staticNames are the table the other way round; of a name that
// is there several times, the first.
var staticPairs, staticNames = func() (map[pair]int, map[string]int) {
	pairs, names := make(map[pair]int), make(map[string]int)
	for i, e := range staticTable {
		pairs[pair{e.name, e.value}] = i + 1
		if names[e.name] == 0 {
			names[e.name] = i + 1
		}
	}
	return pairs, names
}()
