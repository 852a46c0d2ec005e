package edge

import (
	"maps"
	"testing"
)

func TestMasked(t *testing.T) {
	set := map[string]string{"threshold": "20", "API_KEY": "k", "db-password": "p", "Token": "t"}
	was := maps.Clone(set)
	shown := Masked(set)
	want := map[string]string{"threshold": "20", "API_KEY": Mask, "db-password": Mask, "Token": Mask}
	if !maps.Equal(shown, want) || !maps.Equal(set, was) {
		t.Errorf("shown %v, and then %v", shown, set)
	}
	shown["threshold"], shown["Token"] = "30", "new"
	want = map[string]string{"threshold": "30", "API_KEY": "k", "db-password": "p", "Token": "new"}
	if got := Unmasked(shown, set); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := Unmasked(map[string]string{"threshold": Mask, "other_secret": Mask}, set); !maps.Equal(got, map[string]string{"threshold": Mask, "other_secret": Mask}) {
		t.Errorf("%v", got)
	}
	if Masked(nil) != nil || Unmasked(nil, set) != nil {
		t.Error("something of nothing")
	}
}
