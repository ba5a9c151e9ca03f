package commands

import (
	"log/slog"

	systemd "github.com/coreos/go-systemd/v22/journal"
	"github.com/urfave/cli/v2"

	"cis490/internal/journal"
)

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "minimum log `LEVEL`: debug, info, warn, error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log on standard error: text or json"},
	}
}

// log returns the logger of this run. In a unit it logs to the journal: with fields
// for a daemon, which has NOTIFY_SOCKET, else as lines with a priority.
func (a *app) log(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usagef(c, "unknown log level %q", c.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level}
	switch f := c.String("log-format"); {
	case f == "json":
		return slog.New(slog.NewJSONHandler(a.env.Err, o)), nil
	case f != "text":
		return nil, usagef(c, "unknown log format %q", f)
	case !toJournal():
		return slog.New(slog.NewTextHandler(a.env.Err, o)), nil
	}
	var send journal.Send
	if a.env.Getenv("NOTIFY_SOCKET") != "" {
		send = systemd.Send
	}
	return slog.New(journal.New(level, maskAndEscape, a.env.Err, send)), nil
}

// toJournal reports whether standard error is a stream to the journal.
func toJournal() bool {
	is, err := systemd.StderrIsJournalStream()
	return is && err == nil
}
