package duckdb

import "testing"

func TestAskAnswersByName(t *testing.T) {
	var got struct{ Numbers, Texts []map[string]any }
	Ask(t, map[string]string{
		"numbers": "select 9007199254740993::bigint as big, 7::integer as small union all select 1, null order by small",
		"texts":   "select 'a' as x where false",
	}, &got)
	if len(got.Numbers) != 2 || got.Numbers[0]["big"] != "9007199254740993" || got.Numbers[0]["small"] != 7.0 || got.Numbers[1]["small"] != nil {
		t.Errorf("numbers = %v, want 9007199254740993 as a text with 7, then null", got.Numbers)
	}
	if len(got.Texts) != 0 {
		t.Errorf("texts = %v, want none", got.Texts)
	}
}
