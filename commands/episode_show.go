package commands

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/plain"
	"cis490/internal/plot"
)

// sparkWidth is the number of characters of a curve.
const sparkWidth = 60

func (a *app) episodeShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show an episode's state, phases and metrics",
		ArgsUsage: "EPISODE|DIR|TARBALL",
		Description: "Its location, recording conditions, phases, rows of each source and metrics over time.\n\n" +
			"Examples:\n   sudo cis490 episode show 01J9Z3NDEKTSV4RRFFQ69G5FAV\n" +
			"   cis490 episode show --json 01J9Z3NDEKTSV4RRFFQ69G5FAV.tar.zst | jq .phases",
		Flags:  append(roleFlags(), jsonFlag()),
		Action: a.episodeShow,
	}
}

// shown is the output of `episode show --json`.
type shown struct {
	Path   string          `json:"path,omitempty"`  // "": the files are gone
	Spool  *episodeRow     `json:"spool,omitempty"` // its state in this host's spool
	Fault  string          `json:"fault,omitempty"` // why its files are not readable
	Meta   *episode.Meta   `json:"meta,omitempty"`
	Phases []episode.Phase `json:"phases,omitempty"`
	curves []episode.Curve
	whole  episode.Overview
}

func (a *app) episodeShow(c *cli.Context) (err error) {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return usagef(c, "want one EPISODE, DIR or TARBALL")
	}
	s := shown{}
	s.Spool, err = a.spoolRow(c, args[0])
	if err != nil {
		return err
	}
	o, err := a.openEpisode(c, args[0])
	switch {
	case err != nil && s.Spool == nil:
		return err
	case err == nil:
		defer func() { err = errors.Join(err, o.close()) }()
		s.Path = o.path
		s.whole, err = episode.ReadOverview(o.files)
		switch {
		case err == nil:
			s.Meta, s.Phases, s.curves = &s.whole.Meta, s.whole.Phases, s.whole.Curves
		case s.Spool == nil:
			return fault.Fix(fmt.Errorf("show %s: %w", o.path, err), "cis490 episode verify "+o.path)
		default: // show its location and the error
			s.Fault, err = err.Error(), nil
		}
	default:
		s.Fault, err = err.Error(), nil
	}
	if c.Bool("json") {
		return a.printJSON(s)
	}
	a.printShown(s)
	return nil
}

// spoolRow returns an episode's state in the spool of this machine, if it is a lab host and
// arg is an id.
func (a *app) spoolRow(c *cli.Context, arg string) (*episodeRow, error) {
	id, ok := namesID(arg)
	if !ok {
		return nil, nil
	}
	at, err := a.roles(c)
	if err != nil {
		return nil, err
	}
	for _, p := range at {
		if p.role != roleLabHost {
			continue
		}
		conf, _, err := config.LoadLabHost(p.path)
		if err != nil {
			return nil, err
		}
		rows, err := episodeRows(conf.DataDir, true)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fault.Fix(err, "sudo cis490 episode show "+arg)
		}
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Episode == id {
				return &r, nil
			}
		}
	}
	return nil, nil
}

func (a *app) printShown(s shown) {
	w := tabwriter.NewWriter(a.env.Out, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) {
		// Plain, so that text from the episode cannot forge a line.
		_, _ = fmt.Fprintf(w, "%s\t%s\n", key, check.Sanitize(fmt.Sprintf(format, args...), 400)) // flushed below
	}
	if r := s.Spool; r != nil {
		line("state", "%s %s", r.State, r.why())
		if r.Reason != nil {
			line("fix", "%s", check.Sanitize(r.Reason.Fix, 300))
		}
		if r.Receipt != nil {
			line("receipt", "%s, %s", r.Receipt.Digest, humanize.IBytes(uint64(r.Receipt.Size)))
		}
	}
	if s.Path != "" {
		line("files", "%s", s.Path)
	}
	if s.Meta == nil {
		line("fault", "%s", check.Sanitize(s.Fault, 300))
		_ = w.Flush()
		return
	}
	m := s.Meta
	line("episode", "%s of %s, recording %d, slot %d", m.Episode, m.Host, m.Counter, m.Slot)
	line("profile", "%s of experiment %.12s", m.Profile, m.Experiment)
	line("code", "%s (%.12s)", m.Code.Version, m.Code.Commit)
	line("recorded", "%s, %s", plain.Time(m.Start), m.End.Sub(m.Start).Round(time.Millisecond))
	line("verdict", "%s %s", m.Verdict, check.Sanitize(m.Reason, 300))
	line("host load", "%.0f %% of %d cores, %d slots", 100*m.Load.Busy, m.Load.Cores, m.Load.Slots)
	for _, n := range m.Notes {
		line("note", "%s", check.Sanitize(n, 300))
	}
	_, _ = fmt.Fprintln(w, "\nPHASE\tBEGINS\tLASTS\tEVENT")
	for i, p := range s.Phases {
		_, _ = fmt.Fprintf(w, "%d %s\t%s\t%s\t%s\n", i+1, p.Name, seconds(p.Begin), seconds(p.End-p.Begin), p.Event)
	}
	_, _ = fmt.Fprintln(w, "\nSOURCE\tROWS\tRATE\tMISSED\tLATE (p50, p99, max)")
	for _, source := range slices.Sorted(maps.Keys(m.Rows)) {
		k := m.Sampling[source]
		_, _ = fmt.Fprintf(w, "%s\t%d\t%g Hz\t%d\t%s, %s, %s\n",
			check.Sanitize(source, 40), m.Rows[source], k.Hz, k.Missed, micro(k.JitterP50US), micro(k.JitterP99US), micro(k.JitterMaxUS))
	}
	_, _ = fmt.Fprintf(w, "\nphase\t%s\n", ruler(s.whole))
	for _, k := range s.curves {
		_, _ = fmt.Fprintf(w, "%s\t%s\tat most %s\n", k.Name, spark(k.Buckets(sparkWidth, s.whole.End)), plot.Figure(k.Unit, k.Max()))
	}
	_ = w.Flush()
}

func seconds(ns int64) string { return fmt.Sprintf("%.3f s", float64(ns)/1e9) }
func micro(us int64) string   { return (time.Duration(us) * time.Microsecond).String() }

// ruler returns a line that shows the phase of each part of the curves.
func ruler(o episode.Overview) string {
	var b strings.Builder
	for i := range sparkWidth {
		b.WriteByte(" 123456789abcdefghijklmnopqrstuvwxyz"[min(o.PhaseAt(i, sparkWidth)+1, 35)])
	}
	return b.String()
}

// spark draws values from 0 to their maximum; a blank is a missing value.
func spark(values []float64) string {
	steps, most := []rune("▁▂▃▄▅▆▇█"), 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			most = math.Max(most, v)
		}
	}
	var b strings.Builder
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case most == 0:
			b.WriteRune(steps[0])
		default:
			b.WriteRune(steps[int(math.Round(math.Max(v, 0)/most*float64(len(steps)-1)))])
		}
	}
	return b.String()
}
