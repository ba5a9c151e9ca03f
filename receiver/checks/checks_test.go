package checks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/version"
	"cis490/receiver"
	"cis490/receiver/checks"
	"cis490/receiver/local"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// healthy is a receiver on which all is well; serve is its answers by path.
func healthy(t *testing.T, serve map[string]string) checks.Options {
	t.Helper()
	dir := t.TempDir()
	c := config.DefaultReceiver()
	c.DataDir, c.Authority.Dir, c.Operator, c.Limits.DiskReserve = filepath.Join(
		dir,
		"data",
	), filepath.Join(
		dir,
		"authority",
	), filepath.Join(
		dir,
		"operator",
	), 1
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := serve[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			body = "gate: not loaded"
		}
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	c.PublicURL, c.Authority.URL = s.URL, s.URL
	o := checks.Options{
		Config: c,
		Build:  version.Info{Version: "1", Commit: "0123456789abcdef0123456789abcdef01234567"},
		Now:    func() time.Time { return now },
		Client: s.Client(),
	}
	ca, err := pki.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Server(key.Public(), []string{"x"}, now, 90*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(c.Authority.Dir, "server.pem"), string(pki.EncodeCerts(cert)), 0o640)
	write(t, filepath.Join(c.Authority.Dir, "ca.key"), "secret", 0o600)
	write(t, filepath.Join(c.Authority.Dir, "ca.crt"), "public", 0o644)
	touch(t, filepath.Join(c.Authority.Dir, "ca.crt"), now.Add(-30*24*time.Hour))
	write(t, filepath.Join(c.DataDir, "last-backup.json"), `{"at":"2026-02-23T12:00:00Z","file":"/safe/b.tar.gz"}`, 0o644)
	write(t, c.Operator, "secret", 0o640)
	write(t, filepath.Join(c.DataDir, "fleet-check.json"), `{"at":"2026-03-01T11:50:00Z"}`, 0o644)
	write(t, filepath.Join(c.DataDir, "index.jsonl"), row(1, 4)+row(2, 4), 0o640)
	for i := 1; i <= 2; i++ {
		write(t, tarball(o, i), "body", 0o640)
	}
	o.Config.Notify.HeartbeatURL, o.Config.Notify.WebhookURL = "https://beat.example/secret", "https://hook.example/secret"
	write(
		t,
		filepath.Join(o.Config.DataDir, "notify.json"),
		`{"heartbeat":{"last_success":"2026-03-01T11:59:00Z"},"webhook":{"last_success":"2026-03-01T11:59:00Z"}}`,
		0o640,
	)
	return o
}

func tarball(o checks.Options, i int) string {
	return filepath.Join(o.Config.DataDir, "episodes", "lab-01", fmt.Sprintf("01ARZ3NDEKTSV4RRFFQ69G5FA%d.tar.zst", i))
}

func row(i int, size int64) string {
	b, _ := json.Marshal(map[string]any{
		"v": 1, "received_at": now.Add(time.Duration(i-10) * time.Minute), "host": "lab-01",
		"episode": fmt.Sprintf("01ARZ3NDEKTSV4RRFFQ69G5FA%d", i), "sha256": strings.Repeat("0", 64), "size": size,
	})
	return string(b) + "\n"
}

func write(t *testing.T, path, content string, perm os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), perm); err != nil {
		t.Fatal(err)
	}
}

// TestChecks_EachFindsItsFault spoils one thing at a time: only the checks that
// are about it may notice.
func TestChecks_EachFindsItsFault(t *testing.T) {
	const head = `{"accepted":true,"head_commit":"0123456789abcdef0123456789abcdef01234567"}`
	const gate = "/v1/gate/0123456789abcdef0123456789abcdef01234567"
	data := func(o *checks.Options, name string) string { return filepath.Join(o.Config.DataDir, name) }
	for name, c := range map[string]struct {
		spoil func(t *testing.T, o *checks.Options, serve map[string]string)
		want  string
	}{
		"nothing":         {func(*testing.T, *checks.Options, map[string]string) {}, ""},
		"not ready":       {func(_ *testing.T, _ *checks.Options, s map[string]string) { delete(s, "/readyz") }, "receiver.ready:fail"},
		"gate not loaded": {func(_ *testing.T, _ *checks.Options, s map[string]string) { delete(s, gate) }, "gate.loaded:fail"},
		"gate disabled":   {func(_ *testing.T, o *checks.Options, _ map[string]string) { o.Config.Gate.Enabled = false }, "gate.loaded:warn"},
		"authority away":  {func(_ *testing.T, _ *checks.Options, s map[string]string) { delete(s, "/v1/health") }, "authority.reachable:fail"},
		"no CA": {
			func(_ *testing.T, o *checks.Options, _ map[string]string) { o.Client = nil },
			"authority.reachable:skip gate.loaded:skip receiver.ready:skip",
		},
		"no commit": {func(_ *testing.T, o *checks.Options, s map[string]string) {
			o.Build.Commit = ""
			s["/v1/gate/"+strings.Repeat("0", 40)] = head
		}, "version.stamp:warn"},
		"certificate ends": {func(_ *testing.T, o *checks.Options, _ map[string]string) {
			o.Now = func() time.Time { return now.Add(80 * 24 * time.Hour) }
		}, "backup.age:warn fleetcheck.last:fail server.cert:warn"},
		"never watched": {
			func(t *testing.T, o *checks.Options, _ map[string]string) { remove(t, data(o, "fleet-check.json")) }, "fleetcheck.last:fail",
		},
		"watched soon": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			remove(t, data(o, "fleet-check.json"))
			write(t, data(o, "store_id"), "new", 0o644)
			touch(t, data(o, "store_id"), now.Add(-15*time.Minute))
		}, "fleetcheck.last:skip"},
		"watched 16 ago": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "fleet-check.json"), `{"at":"2026-03-01T11:44:00Z"}`, 0o644)
		}, "fleetcheck.last:fail"},
		"watched, kept elsewhere": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "fleet-check.json"), `{"at":"2026-03-01T11:44:00Z"}`, 0o644)
			spare := t.TempDir()
			o.Backend = local.Open(local.Options{FS: disk.OS{}, Dir: o.Config.DataDir, Now: o.Now, Spare: spare})
			write(t, filepath.Join(spare, "fleet-check.json.new"), `{"at":"2026-03-01T11:58:00Z"}`, 0o644)
		}, ""},
		"index of another": {
			func(_ *testing.T, o *checks.Options, _ map[string]string) { o.User = "nobody-such" }, "files.owner:fail ledger.index:fail",
		},
		"index is a link": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			link(t, data(o, "index.jsonl"), data(o, "other"))
		}, "ledger.index:fail"},
		"index for all": {
			func(t *testing.T, o *checks.Options, _ map[string]string) { chmod(t, data(o, "index.jsonl"), 0o666) }, "ledger.index:fail",
		},
		"a file is lost": {func(t *testing.T, o *checks.Options, _ map[string]string) { remove(t, tarball(*o, 2)) }, "rows.files:fail"},
		"a file is cut": {
			func(t *testing.T, o *checks.Options, _ map[string]string) { write(t, tarball(*o, 1), "b", 0o640) }, "rows.files:fail",
		},
		"a row is unread": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "index.jsonl"), row(1, 4)+`{"received_at":"2026-03-01T11:59:00Z","host":7}`+"\n", 0o640)
		}, "rows.files:warn"},
		"clock went back": {func(_ *testing.T, o *checks.Options, _ map[string]string) {
			o.Now = func() time.Time { return now.Add(-time.Hour) }
			o.Synced = func(context.Context) check.Result { return check.Warnf("not synchronised") }
		}, "clock.ledger:fail fleetcheck.last:fail"},
		"clock was ahead": {func(_ *testing.T, o *checks.Options, _ map[string]string) {
			o.Now = func() time.Time { return now.Add(-9 * time.Minute) }
			o.Synced = func(context.Context) check.Result { return check.Passf("synchronised") }
		}, ""},
		"clock was ahead, and rows were written since": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			ahead := strings.Replace(row(1, 1<<40), now.Add(-9*time.Minute).Format(time.RFC3339), now.Add(40*24*time.Hour).Format(time.RFC3339), 1)
			old := strings.Replace(ahead, "}\n", `,"clock":"`+now.Add(-25*time.Hour).Format(time.RFC3339)+"\"}\n", 1)
			since := strings.Replace(
				strings.Replace(ahead, "1099511627776", "4", 1), "}\n", `,"clock":"`+now.Add(-time.Minute).Format(time.RFC3339)+"\"}\n", 1,
			)
			write(t, data(o, "index.jsonl"), ahead+old+since, 0o640)
			remove(t, tarball(*o, 1))
			o.Synced = func(context.Context) check.Result { return check.Warnf("not synchronised") }
		}, "rows.files:fail"}, // and not disk.days
		"fleet-check ran in the future": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "fleet-check.json"), `{"at":"2026-03-01T20:00:00Z"}`, 0o644)
		}, "fleetcheck.last:fail"},
		"backup of the future": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "last-backup.json"), `{"at":"2027-02-22T12:00:00Z"}`, 0o644)
		}, "backup.age:warn"},
		"CA of the future, never backed up": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			remove(t, data(o, "last-backup.json"))
			touch(t, filepath.Join(o.Config.Authority.Dir, "ca.crt"), now.Add(24*time.Hour))
		}, "backup.age:skip backup.made:warn"},
		"open CA key": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			chmod(t, filepath.Join(o.Config.Authority.Dir, "ca.key"), 0o640)
		}, "ca.key:fail"},
		"no target": {
			func(_ *testing.T, o *checks.Options, _ map[string]string) { o.Config.Notify = config.Notify{} },
			"notifier.last:skip notify.target:warn",
		},
		"no URL of a service": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			o.Config.Notify.URLsFile = data(o, "urls")
			write(t, data(o, "urls"), "http://127.0.0.1:9999/alert\n", 0o640)
		}, "notifier.last:skip notify.target:warn"},
		"never notified": {
			func(t *testing.T, o *checks.Options, _ map[string]string) { remove(t, data(o, "notify.json")) }, "notifier.last:skip",
		},
		"failing for 15 min": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "notify.json"), `{"heartbeat":{"failing_since":"2026-03-01T11:45:00Z"}}`, 0o640)
		}, "notifier.last:warn"},
		"failing for 16 min": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "notify.json"), `{"heartbeat":{"failing_since":"2026-03-01T11:44:00Z"}}`, 0o640)
		}, "notifier.last:fail"},
		"hook for all": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			o.Config.Notify.WebhookTokenFile = data(o, "hook")
			write(t, data(o, "hook"), "secret", 0o644)
		}, "operator.token:warn"},
		"backup of 7 days": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "last-backup.json"), `{"at":"2026-02-22T12:00:00Z"}`, 0o644)
		}, ""},
		"backup older than 7 days": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "last-backup.json"), `{"at":"2026-02-22T11:59:59Z"}`, 0o644)
		}, "backup.age:warn"},
		"no backup in 30 days": {
			func(t *testing.T, o *checks.Options, _ map[string]string) { remove(t, data(o, "last-backup.json")) },
			"backup.age:warn backup.made:warn",
		},
		"no backup, new CA": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			remove(t, data(o, "last-backup.json"))
			touch(t, filepath.Join(o.Config.Authority.Dir, "ca.crt"), now.Add(-7*24*time.Hour))
		}, "backup.age:skip backup.made:warn"},
		"backup of another CA": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			write(t, data(o, "last-backup.json"), `{"at":"2026-02-20T12:00:00Z"}`, 0o644)
			touch(t, filepath.Join(o.Config.Authority.Dir, "ca.crt"), now.Add(-8*24*time.Hour))
		}, "backup.age:warn"},
		"backed up elsewhere": {func(t *testing.T, o *checks.Options, _ map[string]string) {
			remove(t, data(o, "last-backup.json"))
			o.Config.Fleet.BackupOld = 0
		}, "backup.age:skip backup.made:skip"},
		"open token": {
			func(t *testing.T, o *checks.Options, _ map[string]string) { chmod(t, o.Config.Operator, 0o644) }, "operator.token:warn",
		},
		"disk full": {
			func(_ *testing.T, o *checks.Options, _ map[string]string) { o.Config.Limits.DiskReserve = 1 << 60 },
			"disk.days:warn disk.reserve:fail",
		},
		"broken config": {
			func(_ *testing.T, o *checks.Options, _ map[string]string) { o.Err = errors.New("x.toml:1:1: no") },
			"authority.reachable:skip backup.age:skip backup.made:skip ca.key:skip clock.ledger:skip cluster.agree:skip cluster.authority:skip " +
				"cluster.certificates:skip cluster.ready:skip config.valid:fail disk.days:skip disk.inodes:skip disk.reserve:skip files.owner:skip " +
				"fleetcheck.last:skip gate.loaded:skip ledger.alerts:skip " +
				"ledger.index:skip machine.fit:skip notifier.last:skip notify.target:skip operator.token:skip receiver.ready:skip " +
				"release.published:skip releases.signed:skip rows.files:skip server.cert:skip",
		},
	} {
		t.Run(name, func(t *testing.T) {
			serve := map[string]string{"/readyz": "ok", "/v1/health": "ok", gate: head}
			o := healthy(t, serve)
			c.spoil(t, &o, serve)
			var got []string
			for _, r := range check.Run(t.Context(), checks.Checks(o)) {
				if r.Status != check.Pass && r.ID != "clock.synced" &&
					(r.ID != "releases.signed" && r.ID != "release.published" || name == "broken config") &&
					!strings.HasPrefix(r.ID, "units.") &&
					!strings.HasPrefix(r.ID, "timers.") {
					got = append(got, fmt.Sprintf("%s:%s", r.ID, r.Status))
				}
				stored := r.Status == check.Warn || r.Status == check.Fail
				if stored && regexp.MustCompile(`\d (days|min|s)( ago|$)|, (for|in) \d`).MatchString(r.Detail) && r.ID != "fleetcheck.last" {
					t.Errorf("an alert stores this detail, so its age is wrong when it is read: %+v", r)
				}
				if strings.Contains(r.Detail, "secret") {
					t.Errorf("shows a secret: %+v", r)
				}
			}
			slices.Sort(got)
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestRows_DeepFindsFilesWithoutARow(t *testing.T) {
	o := healthy(t, nil)
	o.Deep = true
	write(t, tarball(o, 3), "body", 0o640)
	for _, k := range checks.Checks(o) {
		if k.ID == "rows.files" {
			if r := k.Run(t.Context()); r.Status != check.Warn || !strings.Contains(r.Detail, "3 files and 2 rows") {
				t.Errorf("%+v", r)
			}
		}
	}
}

// awayEpisodes are tarballs in a storage that does not answer.
type awayEpisodes struct{ receiver.Episodes }

func (awayEpisodes) Check(context.Context, int, time.Time) (receiver.Checked, error) {
	return receiver.Checked{}, fmt.Errorf("stat: %w", receiver.ErrBusy)
}

// A storage that is away says nothing about the rows.
func TestRows_StorageAway(t *testing.T) {
	o := healthy(t, nil)
	o.Backend = local.Open(local.Options{FS: disk.OS{}, Dir: o.Config.DataDir})
	o.Backend.Episodes = awayEpisodes{o.Backend.Episodes}
	for _, k := range checks.Checks(o) {
		if k.ID == "rows.files" {
			if r := k.Run(t.Context()); r.Status != check.Skip {
				t.Errorf("%+v", r)
			}
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, perm os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, path, to string) {
	t.Helper()
	if err := os.Rename(path, to); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}
