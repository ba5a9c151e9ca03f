package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/fleet"
)

func (a *app) alertsSilenceCommand() *cli.Command {
	return &cli.Command{
		Name:      "silence",
		Usage:     "mute the notifications of an alert",
		ArgsUsage: "HOST SYMPTOM",
		Description: "The silence ends when the alert resolves, or at the time of --until. Rows are still\n" +
			"written, and `alerts list` shows the alert. The receiver's own alerts have the host\n" +
			"@receiver.\n\n" +
			"Examples:\n   sudo cis490 alerts silence lab-07 silent --comment 'at the repair shop'\n   sudo cis490 alerts silence " +
			"lab-07 gone --until 72h\n   sudo cis490 alerts silence lab-07 gone --end",
		Flags: []cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.StringFlag{Name: "until", Usage: "mute it for or until `TIME`: 72h, or '2026-03-01 12:00' in UTC"},
			&cli.StringFlag{Name: "comment", Usage: "record the reason `WHY`"},
			&cli.BoolFlag{Name: "end", Usage: "end a silence"},
		},
		Action: a.alertsSilence,
	}
}

func (a *app) alertsSilence(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 2 {
		return usagef(c, "want HOST and SYMPTOM, as `cis490 alerts list` shows them")
	}
	if !fleet.IsSymptom(args[1]) {
		return usagef(c, "unknown symptom %q%s", check.Sanitize(args[1], 80), meant("", args[1], fleet.Symptoms()))
	}
	in := wire.Silence{End: c.Bool("end"), Comment: c.String("comment")}
	if s := c.String("until"); s != "" {
		if in.End {
			return usagef(c, "--end and --until say opposite things")
		}
		if in.Until, err = moment(s, time.Now()); err != nil {
			return usagef(c, "--until: %w", err)
		}
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	var done receiver.Silence
	if err := operatorPost(c.Context, conf, wire.AlertsPath+"/"+args[0]+"/"+args[1]+"/silence", in, &done); err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(done)
	}
	switch {
	case done.End:
		a.printf("%s %s: notifications resumed\n", done.Host, done.Symptom)
	case done.Until.IsZero():
		a.printf("%s %s: silenced until it resolves", done.Host, done.Symptom)
	default:
		a.printf("%s %s: silenced until %s", done.Host, done.Symptom, plain.Time(done.Until))
	}
	if !done.End {
		a.printf("; to end it: sudo cis490 alerts silence %s %s --end\n", done.Host, done.Symptom)
	}
	return nil
}

// moment parses a time, or a duration from now.
func moment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	t, err := plain.ParseTime(s)
	if err != nil {
		return t, fmt.Errorf("%w, or a duration such as 72h", err)
	}
	return t, nil
}

// operatorPost sends a request with the operator token to this machine's serve.
func operatorPost(ctx context.Context, conf config.Receiver, path string, in, out any) error {
	token, err := disk.ReadText(disk.OS{}, conf.Operator, disk.Small)
	if err != nil {
		return err
	}
	client, base := localClient(conf)
	if client == nil {
		return fault.Fix(errors.New("the fleet's CA certificate cannot be read, so serve could not be known"), "run it with sudo")
	}
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("ask serve: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	res, err := client.Do(r)
	if err != nil {
		return fault.Exit(fault.Fix(fmt.Errorf("ask serve: %w", err), "systemctl status cis490-receiver"), fault.Unavailable)
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	if res.StatusCode/100 != 2 {
		p, err := wire.ReadProblem(res)
		if err != nil {
			return fmt.Errorf("ask serve: %w", err)
		}
		return fault.Fix(p, "cis490 alerts list")
	}
	if b, err = io.ReadAll(res.Body); err != nil {
		return fmt.Errorf("ask serve: %w", err)
	}
	if err := wire.Decode(b, out); err != nil {
		return fmt.Errorf("ask serve: %w", err)
	}
	return nil
}
