package commands

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/fault"
)

// watchEvery is how often a live view checks for changes.
const watchEvery = 2 * time.Second

// peopleOrPrograms returns an error if both --watch and --json are set.
func peopleOrPrograms(c *cli.Context) error {
	if c.Bool("watch") && c.Bool("json") {
		return usagef(c, "--watch is for people, --json for programs: choose one")
	}
	return nil
}

// watch prints what view prints, and again after each change: on a terminal in place of the
// one before. It ends with the context. It prints an error of view and goes on, because the
// error may be transient.
func (a *app) watch(ctx context.Context, view func(on *app) error) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	screen, shown := a.terminal(a.env.Out), ""
	for {
		var b bytes.Buffer
		on := *a
		on.env.Out = &b
		on.lines, on.columns = a.size()
		if err := view(&on); err != nil {
			_, _ = fmt.Fprintln(&b, fault.Text(err))
		}
		if ctx.Err() != nil {
			return nil
		}
		if text := b.String(); text != shown {
			if screen {
				controlf(a.env.Out, "\x1b[H\x1b[2J")
			} else if shown != "" {
				a.printf("\n")
			}
			a.printf("%s", text)
			shown = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
