package edge

import (
	"fmt"
	"slices"
	"strings"
)

// CheckTopicConfig refuses unknown keys and wrong values with an error that names both.
func CheckTopicConfig(config map[string]string) error {
	keys := TopicConfigs()
	for name, value := range config {
		i := slices.IndexFunc(keys, func(k ConfigKey) bool { return k.Name == name })
		if i < 0 {
			names := make([]string, len(keys))
			for i, k := range keys {
				names[i] = k.Name
			}
			return fmt.Errorf("%w: unknown key %q (nearest: %s)", ErrInvalidConfig, name, Nearest(name, names))
		}
		if err := keys[i].check(value); err != nil {
			return fmt.Errorf("%w: %s=%s: %w", ErrInvalidConfig, name, value, err)
		}
	}
	return nil
}

// Nearest is the one of some names that a misspelt one most likely meant.
func Nearest(name string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// topicSettings are a topic's configuration as the path needs it, parsed once per snapshot.
type topicSettings struct {
	spread     string // key, round_robin, range
	bounds     []string
	timestamps string // arrival, keep, clamp
}

func settingsOf(t *Topic) topicSettings {
	s := topicSettings{spread: "key", timestamps: "clamp"}
	if v := t.Config["rivulet.partition"]; v != "" {
		s.spread = v
	}
	if v := t.Config["rivulet.range.bounds"]; v != "" {
		s.bounds = strings.Split(v, ",")
	}
	if v := t.Config["rivulet.timestamps"]; v != "" {
		s.timestamps = v
	}
	if t.Config["message.timestamp.type"] == "LogAppendTime" {
		s.timestamps = "arrival"
	}
	return s
}
