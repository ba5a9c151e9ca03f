package commands

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/plain"
	"cis490/receiver/rollout"
)

// progressOf returns the published releases with their progress, the newest first.
func progressOf(dir string) ([]manifest.Progress, error) {
	all, err := manifest.List(disk.OS{}, dir)
	if err != nil {
		return nil, err
	}
	rollout, err := manifest.ReadRollout(disk.OS{}, dir)
	if err != nil {
		return nil, err
	}
	list := []manifest.Progress{}
	for _, p := range all {
		row := manifest.Progress{
			Seq: p.Manifest.Seq, Version: p.Manifest.Version, Commit: p.Manifest.Commit, Since: p.At, Reason: "serve has not begun it yet",
		}
		if known := rollout.Of(p.Manifest.Seq); known != nil {
			row = *known
		}
		list = append(list, row)
	}
	return list, nil
}

// describeRelease returns where a release is now.
func describeRelease(p manifest.Progress) string {
	var names []string
	for _, h := range p.Canaries {
		names = append(names, string(h))
	}
	where := map[manifest.Stage]string{
		manifest.StageReceiver: "offered to this receiver alone",
		manifest.StageCanary:   "offered to the first host, " + cmp.Or(strings.Join(names, ", "), "which is not chosen yet") + ",",
		manifest.StageQuarter:  "offered to one host in four",
		manifest.StageAll:      "offered to all hosts",
	}[p.Stage]
	text := fmt.Sprintf("release %s, seq %d: %s since %s", p.Version, p.Seq, cmp.Or(where, string(p.Stage), "published"), plain.Time(p.Since))
	if p.Reason != "" {
		text += ": " + check.Sanitize(p.Reason, 300)
	}
	return fmt.Sprintf("%s; trials: %d passed, %d failed", text, len(p.Clean), len(p.RolledBack))
}

// waveTable prints the waves of a release until the last one has ended: who is in which, and
// what it waits for.
func (a *app) waveTable(waves []rollout.Wave) error {
	if n := len(waves); n == 0 || waves[n-1].Offered && len(waves[n-1].Waiting) == 0 {
		return nil
	}
	return a.table("  WAVE\tHOSTS\tPASSED\tFAILED\tWAITS FOR", func(row func(...any)) {
		for _, w := range waves {
			waits := "-"
			switch {
			case !w.Offered:
				waits = "the wave before"
			case len(w.Waiting) > 0:
				waits = "trials on " + someOf(w.Waiting)
			case !w.Done && w.Stage == manifest.StageReceiver:
				waits = "its trial on this receiver"
			case !w.Done && w.Stage == manifest.StageCanary && len(w.Hosts) == 0:
				waits = "a host to try it"
			}
			if w.Stage == manifest.StageReceiver { // its own trial is not counted
				row("  "+string(w.Stage), "this receiver", "-", "-", waits)
				continue
			}
			row("  "+string(w.Stage), someOf(w.Hosts), w.Passed, w.Failed, waits)
		}
	})
}

// someOf returns the first names of hosts, and how many there are.
func someOf(hosts []ident.Host) string {
	const most = 3
	if n := len(hosts); n > most+1 {
		return fmt.Sprintf("%s and %d more", joinHosts(hosts[:most]), n-most)
	}
	return cmp.Or(joinHosts(hosts), "-")
}

// describeVersions returns how many hosts run which version, or "".
func describeVersions(hosts []hostStatus) string {
	by := map[string]int{}
	for _, h := range hosts {
		if h.Version != "" {
			by[h.Version]++
		}
	}
	var all []string
	for version, n := range by {
		all = append(all, fmt.Sprintf("%s on %d", version, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
