package commands

import (
	"log/slog"

	"github.com/urfave/cli/v2"
)

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "minimum log `LEVEL`: debug, info, warn, error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log on standard error: text or json"},
	}
}

// log returns the logger of this run. Under systemd, lines have no time, because the
// journal adds it.
func (a *app) log(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usagef(c, "unknown log level %q", c.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level}
	if a.env.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}
	}
	switch f := c.String("log-format"); f {
	case "text":
		return slog.New(slog.NewTextHandler(a.env.Err, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.env.Err, o)), nil
	default:
		return nil, usagef(c, "unknown log format %q", f)
	}
}
