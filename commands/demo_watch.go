package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/local"
)

// joinToken requests a host's join token, like a maintainer.
func (d *demo) joinToken(ctx context.Context, h ident.Host) (wire.Token, error) {
	out, err := d.kids.run(ctx, "token-"+string(h), "token", "create", "--config", d.path("receiver.toml"), "--json", string(h))
	if err != nil {
		return wire.Token{}, err
	}
	var made []struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(out, &made); err != nil || len(made) != 1 {
		return wire.Token{}, errors.Join(fmt.Errorf("token create --json printed %d tokens", len(made)), err)
	}
	return wire.ParseToken(made[0].Token)
}

// lookAround prints where everything is.
func (d *demo) lookAround() {
	d.a.printf(`
The whole system is running in %s

Dashboard: %s  (operator token: demo; certificate of the demo's own CA)

Try in another terminal:
   %[3]s status --config %[4]s
   %[3]s doctor --config %[5]s
   tail -f %[6]s

`, d.dir, d.url, program(), d.path("receiver.toml"), d.path(string(d.hosts[0]), "lab-host.toml"), d.path("logs", "*.log"))
}

// watch prints each accepted episode until the demo is stopped or, with once, every host
// has enough episodes.
func (d *demo) watch(ctx context.Context, once bool) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	start, back := time.Now(), local.Open(local.Options{FS: disk.OS{}, Dir: d.path("receiver")})
	seen := map[ident.EpisodeID]bool{}
	per := map[ident.Host]int{}
	var bytes int64
	for {
		for e, err := range back.Index.Since(time.Time{}) {
			if err != nil {
				return err
			}
			if seen[e.Episode] {
				continue
			}
			seen[e.Episode] = true
			per[e.Host]++
			bytes += e.Size
			d.a.printf("%6.1fs  %s  episode %s accepted (%d of this host, %s)\n",
				time.Since(start).Seconds(), e.Host, e.Episode, per[e.Host], humanize.IBytes(uint64(e.Size)))
		}
		ended, err := d.breakOne(start, back.Alerts, d.all(per))
		if err != nil {
			return err
		}
		if once && ended && d.all(per) {
			hosts := "1 host"
			if n := len(d.hosts); n != 1 {
				hosts = fmt.Sprintf("%d hosts", n)
			}
			d.a.printf("\n%s, %d episodes accepted, %s, in %.1fs; "+
				"each recorded from a process, shipped over mutual TLS and stored durably before its receipt\n",
				hosts, len(seen), humanize.IBytes(uint64(bytes)), time.Since(start).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("only %v episodes accepted before the timeout; logs are in %s", per, filepath.Join(d.dir, "logs"))
		case err := <-d.kids.died:
			return err
		case <-tick.C:
		}
	}
}

func (d *demo) all(per map[ident.Host]int) bool {
	for _, h := range d.hosts {
		if per[h] < enough {
			return false
		}
	}
	return true
}
