//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// webhookServer is a fake webhook on port 8080. It appends each request as a line to
// /root/requests and answers 200.
const webhookServer = `use IO::Socket::INET; $| = 1;
my $l = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die $!;
while (my $c = $l->accept) {
  my ($line, $n, $key, $body) = (scalar <$c>, 0, "", "");
  while (<$c>) { s/\r\n$//; last if $_ eq ""; $n = $1 if /^Content-Length: (\d+)/i; $key = $1 if /^Idempotency-Key: (\w+)/i }
  read $c, $body, $n if $n;
  $line =~ s/ HTTP.*//s; open my $f, ">>", "/root/requests"; print $f "$line key=$key $body\n"; close $f;
  print $c "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close $c;
}`

// TestDeliveryFails: the webhook is down. The journal, doctor and, after a while, an alert
// report it. Once the webhook is up, it gets each notification once, including the
// resolved ones.
func TestDeliveryFails(t *testing.T) {
	inLane(t)
	f := newFleet(t)
	office := f.Boot("office")
	setConfig(f.rx, "/etc/cis490/receiver.toml", map[string]string{
		"webhook_url": "http://office.lab:8080/hook", "heartbeat_url": "http://office.lab:8080/beat",
	})
	f.watchFleet()
	f.rx.Run("chown root:root /var/lib/cis490/index.jsonl")
	index := f.waitAlert(time.Minute, "@receiver", "index-broken", "ledger.index")

	notifier := "cis490 doctor --only notifier.last"
	f.rx.Eventually(time.Minute, "doctor warns of both", notifier+" | tee /tmp/d | grep -q 'warn  notifier.last.*webhook since' && "+
		"grep -q 'heartbeat since' /tmp/d")
	f.rx.Run("journalctl -u cis490-fleet-health -o cat --no-pager | grep 'cannot deliver alerts' | grep webhook")
	f.paste(index.Fix)
	// As if delivery had failed for 16 minutes.
	f.rx.Run(`systemctl stop cis490-fleet-health.timer cis490-fleet-health.service && since=$(date -u -d '16 minutes ago' +%FT%TZ) && ` +
		`sed -i "s/\"failing_since\":\"[^\"]*\"/\"failing_since\":\"$since\"/g" /var/lib/cis490/notify.json && ` +
		`systemctl start cis490-fleet-health.timer`)
	undelivered := f.waitAlert(time.Minute, "@receiver", "doctor-failing", "notifier.last")
	t.Logf("%s; %s", undelivered.Reason, undelivered.Fix)
	if r := f.rx.Try(notifier); r.Code != 1 || !strings.Contains(r.Out, "FAIL  notifier.last") {
		t.Errorf("doctor does not fail notifier.last after 16 minutes: %s", r)
	}

	office.Write("/root/webhook.pl", webhookServer, 0o644)
	office.Run("systemd-run --unit=webhook perl /root/webhook.pl")
	f.rx.Eventually(time.Minute, "doctor reports no fault", notifier)
	f.waitAllResolved(time.Minute, "@receiver")
	office.Eventually(time.Minute, "both alerts are notified as resolved",
		`test $(grep -c '"state":"resolved".*"title":"cis490: .RESOLVED. @receiver' /root/requests) -ge 2`)
	notified, keys := map[string]int{}, map[string]bool{}
	for line := range strings.Lines(office.Read("/root/requests")) {
		head, body, _ := strings.Cut(line, " {")
		if strings.HasPrefix(head, "GET /beat") {
			notified["beat"]++
			continue
		}
		var m struct {
			Key, State string
			Alerts     []alert
		}
		if err := json.Unmarshal([]byte("{"+body), &m); err != nil || !strings.HasSuffix(head, "key="+m.Key) || keys[m.Key] {
			t.Errorf("%v: %s", err, line)
		}
		keys[m.Key] = true
		for _, a := range m.Alerts {
			notified[a.Symptom+" "+m.State]++
		}
	}
	if notified["beat"] < 2 || notified["index-broken firing"] != 1 || notified["index-broken resolved"] != 1 ||
		notified["doctor-failing resolved"] < 1 {
		t.Errorf("notified: %v", notified)
	}
}
