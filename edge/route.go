package edge

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Route sends the MQTT topics that match to a log topic; the first match wins.
type Route struct {
	MQTT      string // filter; its n-th wildcard is captured as {n}
	Topic     string // may hold {n}; what is not allowed in a topic name becomes _
	Key       string // may hold {n}; "" is the MQTT topic
	Timestamp string // "" or json(path)
	Partition string // "" (the topic's own), key, round_robin, range
	Live      bool   // `store: none`: delivered to MQTT subscribers that are there, never logged; Topic and what belongs to it stay empty
}

// routeTable is the compiled routes, immutable.
type routeTable struct {
	routes []compiledRoute
}

type compiledRoute struct {
	Route
	levels []string
	path   []string // of Timestamp
}

func compileRoutes(routes []Route) (*routeTable, error) {
	t := &routeTable{}
	for i, r := range routes {
		c, err := compileRoute(r)
		if err != nil {
			return nil, fmt.Errorf("route %d (%s): %w", i+1, r.MQTT, err)
		}
		t.routes = append(t.routes, c)
	}
	return t, nil
}

// CheckRoute refuses what Open would refuse.
func CheckRoute(r Route) error {
	_, err := compileRoute(r)
	return err
}

func compileRoute(r Route) (compiledRoute, error) {
	c := compiledRoute{Route: r, levels: strings.Split(r.MQTT, "/")}
	if err := CheckFilter(r.MQTT); err != nil {
		return c, err
	}
	wildcards := strings.Count(r.MQTT, "+") + strings.Count(r.MQTT, "#")
	for _, template := range []string{r.Topic, r.Key} {
		if err := checkTemplate(template, wildcards); err != nil {
			return c, err
		}
	}
	if r.Live {
		if r.Topic != "" || r.Key != "" || r.Timestamp != "" || r.Partition != "" {
			return c, errors.New("store: none keeps no log, so topic, key, timestamp and partition have no place there")
		}
		return c, nil
	}
	if r.Topic == "" {
		return c, errors.New("topic is missing")
	}
	if r.Timestamp != "" {
		path, ok := strings.CutPrefix(r.Timestamp, "json(")
		path, ok2 := strings.CutSuffix(path, ")")
		if !ok || !ok2 || path == "" {
			return c, fmt.Errorf("timestamp %q: want json(path), e.g. json(ts)", r.Timestamp)
		}
		c.path = strings.Split(path, ".")
	}
	switch r.Partition {
	case "", "key", "round_robin", "range":
	default:
		return c, fmt.Errorf("partition %q: want key, round_robin or range", r.Partition)
	}
	return c, nil
}

// find returns the first route that matches and what its wildcards captured.
func (t *routeTable) find(mqttTopic string) (*compiledRoute, []string) {
	levels := strings.Split(mqttTopic, "/")
	for i := range t.routes {
		if captures, ok := t.routes[i].match(levels); ok {
			return &t.routes[i], captures
		}
	}
	return nil, nil
}

// match follows MQTT-4.7: + is one level, # the rest and its parent; topics that begin with $ are not matched by a leading
// wildcard (MQTT-4.7.2-1).
func (r *compiledRoute) match(levels []string) (captures []string, ok bool) {
	if strings.HasPrefix(levels[0], "$") && (r.levels[0] == "+" || r.levels[0] == "#") {
		return nil, false
	}
	for i, l := range r.levels {
		switch {
		case l == "#":
			return append(captures, strings.Join(levels[min(i, len(levels)):], "/")), true
		case i >= len(levels):
			return nil, false
		case l == "+":
			captures = append(captures, levels[i])
		case l != levels[i]:
			return nil, false
		}
	}
	return captures, len(levels) == len(r.levels)
}

// writesTo reports whether some route may write to the log topic, so that its records' mqtt.topic headers are honoured.
func (t *routeTable) writesTo(topic string) bool {
	for i := range t.routes {
		if !t.routes[i].Live && templateMatches(t.routes[i].Topic, topic) {
			return true
		}
	}
	return false
}

// templateMatches treats every {n} as any text.
func templateMatches(template, s string) bool {
	head, rest, ok := strings.Cut(template, "{")
	if !ok {
		return template == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	_, rest, _ = strings.Cut(rest, "}")
	for i := len(head); i <= len(s); i++ {
		if templateMatches(rest, s[i:]) {
			return true
		}
	}
	return false
}

// CheckFilter refuses an ill-formed MQTT topic filter (MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1).
func CheckFilter(filter string) error {
	if filter == "" || len(filter) > 65535 || strings.ContainsRune(filter, 0) {
		return fmt.Errorf("filter %q: 1 to 65535 bytes without NUL", filter)
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return fmt.Errorf("filter %q: # stands alone and last", filter)
		}
		if strings.Contains(l, "+") && l != "+" {
			return fmt.Errorf("filter %q: + stands alone in its level", filter)
		}
	}
	return nil
}

// MatchFilter reports whether a topic matches a well-formed filter (MQTT-4.7).
func MatchFilter(filter, topic string) bool {
	r := compiledRoute{levels: strings.Split(filter, "/")}
	_, ok := r.match(strings.Split(topic, "/"))
	return ok
}

func checkTemplate(s string, wildcards int) error {
	for rest := s; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return nil
		}
		number, tail, ok := strings.Cut(after, "}")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 1 || n > wildcards {
			return fmt.Errorf("template %q: want {1} to {%d}, one for each wildcard", s, wildcards)
		}
		rest = tail
	}
}

// expand fills a template in one pass, so that what a device put into a level is never a template itself.
func expand(template string, captures []string) string {
	pairs := make([]string, 0, 2*len(captures))
	for i, c := range captures {
		pairs = append(pairs, "{"+strconv.Itoa(i+1)+"}", c)
	}
	return strings.NewReplacer(pairs...).Replace(template)
}
