package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"cis490/receiver/fleet"
)

// listedHosts is how many hosts a cause lists; all of them are found by its filter.
const listedHosts = 60

// cause is the open alerts with one reason, grouped as in a notification. Silenced alerts, and
// quiet ones (fleet.Alert.Quiet), are separate causes.
type cause struct {
	Key      string // for the filter and for forms
	Symptoms []string
	Alerts   []alertView // one or more; the oldest first
	Hosts    int
}

// causeKey names why an alert fires: its reason and check, else its symptom.
func causeKey(a fleet.Alert) string {
	if a.Code == "" && a.Check == "" {
		return "symptom:" + a.Symptom
	}
	return strings.TrimSuffix(a.Code+":"+a.Check, ":")
}

// groupByCause groups alerts: the receiver's own first, then by the number of hosts.
func groupByCause(alerts []alertView) []*cause {
	type group struct {
		key  string
		rank int
	}
	by := map[group]*cause{}
	ranks := map[*cause]int{}
	var all []*cause
	for _, a := range alerts {
		g := group{causeKey(a.Alert), rank(a)}
		c := by[g]
		if c == nil {
			c = &cause{Key: g.key}
			by[g], ranks[c] = c, g.rank
			all = append(all, c)
		}
		c.Alerts = append(c.Alerts, a)
		if !slices.Contains(c.Symptoms, a.Symptom) {
			c.Symptoms = append(c.Symptoms, a.Symptom)
		}
	}
	for _, c := range all {
		hosts := map[string]bool{}
		for _, a := range c.Alerts {
			hosts[a.Host] = true
		}
		c.Hosts = len(hosts)
	}
	slices.SortStableFunc(all, func(a, b *cause) int {
		return cmp.Or(cmp.Compare(ranks[a], ranks[b]), cmp.Compare(b.Hosts, a.Hosts))
	})
	return all
}

// First returns the oldest alert, whose reason and fix stand for all.
func (c *cause) First() alertView { return c.Alerts[0] }

// Listed returns the alerts that the page lists.
func (c *cause) Listed() []alertView { return c.Alerts[:min(len(c.Alerts), listedHosts)] }

// More returns how many alerts the page does not list.
func (c *cause) More() int { return len(c.Alerts) - len(c.Listed()) }

// Silenced reports whether all alerts of the cause are silenced.
func (c *cause) Silenced() bool { return c.Alerts[0].Silenced }

// Since returns when the oldest alert began.
func (c *cause) Since() time.Time {
	since := c.Alerts[0].Since
	for _, a := range c.Alerts {
		if a.Since.Before(since) {
			since = a.Since
		}
	}
	return since
}
