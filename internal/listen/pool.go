package listen

// pool is a bounded set of connections, grouped by address or client.
type pool struct {
	max    int
	n      int
	groups map[string][]*conn // oldest first
	// share returns the weight of a group: how many connections it may have per connection
	// of another.
	share func(group string) int
}

func newPool(places int, share func(group string) int) pool {
	return pool{max: places, groups: map[string][]*conn{}, share: share}
}

// add adds a connection to a group. It returns the connection to evict: one of the group if
// the group exceeds limit (0 means unlimited), or one of the largest group if the pool is
// full.
func (p *pool) add(c *conn, group string, limit int) (victim *conn) {
	c.pool, c.group = p, group
	p.groups[group] = append(p.groups[group], c)
	p.n++
	switch {
	case limit > 0 && len(p.groups[group]) > limit:
		return oldest(p.groups[group])
	case p.n > p.max:
		return oldest(p.largest())
	}
	return nil
}

// largest returns the group with the most connections for its weight, and among equals the
// one with the oldest connection.
func (p *pool) largest() (group []*conn) {
	share := 1
	for name, g := range p.groups {
		s := p.share(name)
		if more := len(g)*share - len(group)*s; more > 0 || more == 0 && g[0].seq < group[0].seq {
			group, share = g, s
		}
	}
	return group
}

// oldest returns a group's oldest idle connection, else its oldest.
func oldest(group []*conn) *conn {
	for _, c := range group[:len(group)-1] { // without the newest
		if c.idle.Load() {
			return c
		}
	}
	return group[0]
}

// remove removes a connection from the pool.
func (p *pool) remove(c *conn) {
	if c.pool != p {
		return
	}
	g := p.groups[c.group]
	for i := range g {
		if g[i] == c {
			g = append(g[:i], g[i+1:]...)
			break
		}
	}
	if p.groups[c.group] = g; len(g) == 0 {
		delete(p.groups, c.group)
	}
	c.pool, c.group = nil, ""
	p.n--
}
