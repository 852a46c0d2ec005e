package edge

import (
	"maps"
	"slices"
	"strings"
)

// Mask stands for a secret where configuration is shown.
const Mask = "********"

// Masked is a plugin's settings as they may be shown: what looks like a secret, by its name, is Mask. It is a copy.
func Masked(set map[string]string) map[string]string {
	shown := maps.Clone(set)
	for key := range shown {
		if looksSecret(key) {
			shown[key] = Mask
		}
	}
	return shown
}

// Unmasked is set with what was Mask as it is in old: who changes a part of what was shown keeps the secrets. It is a copy.
func Unmasked(set, old map[string]string) map[string]string {
	meant := maps.Clone(set)
	for key, value := range meant {
		if was, ok := old[key]; ok && value == Mask && looksSecret(key) {
			meant[key] = was
		}
	}
	return meant
}

func looksSecret(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc([]string{"password", "passwd", "secret", "token", "credential", "apikey", "api_key", "private"}, func(word string) bool {
		return strings.Contains(key, word)
	})
}
