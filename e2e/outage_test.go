//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

const spool = "/var/lib/cis490/data"

// stopRecording stops recording, so that only addEpisodes adds episodes, and shortens the
// shipper's ping interval.
func stopRecording(h *lab.Host) {
	h.Run("systemctl stop cis490-autoupdate.timer cis490-autoupdate.service") // would start the recorder again
	h.Run("systemctl stop cis490-orchestrator")
	setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"ping_every": "5s"})
	h.Run("systemctl restart cis490-shipper")
	h.Eventually(time.Minute, "all recorded episodes are shipped", "! ls "+spool+"/episodes/*/done.marker")
}

// addEpisodes writes n whole episodes of about kib KiB each on the host, as the recorder
// does, and returns their commit.
func addEpisodes(h *lab.Host, n, kib int) string {
	commit := commitOn(h)
	h.RunIn(episodeWriter(h, n, kib, 0), "perl")
	return commit
}

// keepAdding adds a small episode per interval until unit load stops.
func keepAdding(h *lab.Host, every time.Duration) {
	h.Write("/root/load.pl", episodeWriter(h, 1<<30, 4, every), 0o644)
	h.Run("systemd-run --quiet --unit load perl /root/load.pl")
}

func commitOn(h *lab.Host) string {
	var v struct{ Commit string }
	if err := json.Unmarshal([]byte(h.Run("cis490 version --json")), &v); err != nil {
		panic(err)
	}
	return v.Commit
}

// episodeWriter is in Perl, because a shell script would start a dozen programs for each episode.
func episodeWriter(h *lab.Host, n, kib int, pause time.Duration) string {
	return fmt.Sprintf(`use Time::HiRes qw(time sleep); use MIME::Base64;
chdir "%[1]s/episodes" or die; umask 0007;
my ($u, $g) = ((getpwnam "cis490-rec")[2], (getgrnam "cis490")[2]);
open my $r, "<", "/dev/urandom"; read $r, my $rows, %[3]d; $rows = encode_base64 $rows;
sub put { open my $f, ">", $_[0] or die $!; print $f $_[1]; close $f; chown $u, $g, $_[0] }
my $base = int(time * 1e6);
for (1 .. %[2]d) {
  my $id = sprintf "01J%%023d", $base + $_;
  mkdir $id; chown $u, $g, $id; chmod 02770, $id;
  put "$id/meta.json", qq({"schema_version":1,"episode":"$id","host":"%[4]s","profile":"lab","experiment_sha256":"%[5]s",) .
    qq("code_version":{"version":"1","commit":"%[6]s"},"verdict":"accepted"}\n);
  put "$id/telemetry-lab.jsonl", $rows;
  put "$id/done", ""; rename "$id/done", "$id/done.marker";
  sleep %[7]f;
}`, spool, n, kib<<10*3/4, h.Name, strings.Repeat("0", 64), commitOn(h), pause.Seconds())
}

// waitDrained waits until all waiting episodes are shipped, and returns how long that took.
func waitDrained(h *lab.Host, limit time.Duration) time.Duration {
	began := time.Now()
	h.Eventually(limit, "no episode waits", fmt.Sprintf("test -z \"$(ls %[1]s/episodes %[1]s/outbox | grep -v ':$')\"", spool))
	return time.Since(began).Round(100 * time.Millisecond)
}

// checkReconciled checks that the receiver has all episodes of the host, and that none is
// quarantined.
func (f *fleet) checkReconciled(h *lab.Host) {
	f.t.Helper()
	if r := h.Try("sudo -u cis490 cis490 reconcile"); r.Code != 0 || !strings.HasPrefix(r.Out, "the receiver has all ") {
		f.t.Errorf("%s: reconcile: %s", h.Name, r)
	}
	if aside := h.Run("ls " + spool + "/quarantine"); aside != "" {
		f.t.Errorf("%s: quarantined: %s", h.Name, aside)
	}
}

// TestCredentialsAway: the host's certificate is missing for a while, as before its
// enrollment. The shipper logs that it waits, and resumes by itself.
func TestCredentialsAway(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	h := f.hosts[0]
	stopRecording(h)
	h.Run("mv /etc/cis490/certs/lab-host.pem /root/ && systemctl stop cis490-cert-fetch.timer && systemctl restart cis490-shipper")
	addEpisodes(h, 20, 10)
	h.Eventually(time.Minute, "the shipper logs that it waits for credentials",
		"journalctl -u cis490-shipper | grep -q 'waiting for credentials'")
	if state := h.Run("systemctl is-active cis490-shipper"); state != "active" {
		t.Errorf("without credentials the shipper is %s", state)
	}
	h.Run("cp -p /root/lab-host.pem /etc/cis490/certs/.new && chown cis490:cis490 /etc/cis490/certs/.new && " +
		"mv /etc/cis490/certs/.new /etc/cis490/certs/lab-host.pem")
	t.Logf("all shipped %s after the return of the credentials", waitDrained(h, time.Minute))
	f.checkReconciled(h)
}
