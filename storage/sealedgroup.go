package storage

import "slices"

// group is what one seal wrote into one class, or what a rewritten file holds in one transaction. It does not change.
type group struct {
	dirInfo
	file *logFile
}

// outranks says which of two groups counts where both hold the same offsets: what was sealed or rewritten later holds all that the
// other one does.
func (g *group) outranks(o *group) bool { return compareRank(g, o) > 0 }

func compareRank(a, b *group) int {
	if a.upTo != b.upTo {
		return compare(a.upTo, b.upTo)
	}
	return compare(uint64(a.file.number), uint64(b.file.number))
}

// groupList holds groups by their first frame. Readers take it under sealedLog.mu and search it without: what they hold does not
// change.
type groupList []groupPlace

type groupPlace struct {
	*group
	reach uint64 // the largest last of this group and those before it
}

func newGroupList(groups []*group) groupList {
	slices.SortStableFunc(groups, func(a, b *group) int { return compare(a.first, b.first) })
	var out groupList
	for _, g := range groups {
		out = out.append(g)
	}
	return out
}

// append adds a group whose first frame is not before that of any other.
func (l groupList) append(g *group) groupList {
	reach := g.last
	if n := len(l); n > 0 {
		reach = max(reach, l[n-1].reach)
	}
	return append(l, groupPlace{g, reach})
}

// add adds a group wherever it belongs.
func (l groupList) add(g *group) groupList {
	if n := len(l); n == 0 || l[n-1].first <= g.first {
		return l.append(g)
	}
	groups := l.list()
	return newGroupList(append(groups, g))
}

// without drops the groups of some files.
func (l groupList) without(gone func(f *logFile) bool) groupList {
	return newGroupList(slices.DeleteFunc(l.list(), func(g *group) bool { return gone(g.file) }))
}

func (l groupList) list() []*group {
	out := make([]*group, len(l))
	for i, p := range l {
		out[i] = p.group
	}
	return out
}
