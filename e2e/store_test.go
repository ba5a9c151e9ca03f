//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
	"cis490/receiver/objects/s3test"
)

// objectStore is a machine with an S3 server. The receiver reaches it through a proxy.
type objectStore struct {
	*lab.Host
	breaker string
}

// bootStore boots an object store.
func bootStore(t *testing.T, l *lab.Lab) *objectStore {
	t.Helper()
	versitygw, err := s3test.Binary()
	if err == nil {
		_, err = os.Stat(versitygw)
	}
	if err != nil {
		t.Skipf("no versitygw: make versitygw: %v", err)
	}
	o := &objectStore{Host: l.Boot("store")}
	o.breaker = o.Breaker()
	o.Push(versitygw, "/usr/local/bin/versitygw")
	o.Run("mkdir -p /srv/objects/" + s3test.Bucket + " && systemd-run --quiet --unit objects -E ROOT_ACCESS_KEY=" + s3test.Keys().ID +
		" -E ROOT_SECRET_KEY=" + s3test.Keys().Secret + " versitygw --port 127.0.0.1:7070 posix /srv/objects")
	o.Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=" + o.Name + ".lab " +
		"-addext subjectAltName=IP:" + o.Addr + " -keyout /root/key.pem -out /root/ca.pem 2>/dev/null && " +
		"cat /root/ca.pem /root/key.pem >/root/both.pem")
	o.work()
	return o
}

// work has the proxy pass all requests on.
func (o *objectStore) work() { o.proxy("") }

// fail has the proxy break each n-th request.
func (o *objectStore) fail(fault s3test.Fault, n int) { o.proxy(fmt.Sprintf("'%s' %d", fault, n)) }

func (o *objectStore) proxy(args string) {
	o.Run("systemctl stop breaker; systemd-run --quiet --unit breaker " + o.breaker + " :7071 /root/both.pem 127.0.0.1:7070 " + args)
	o.Eventually(30*time.Second, "the store's proxy listens", "ss -Htln | grep -q :7071")
}

// sums returns the digests of the store's tarballs, by the path that each has on a disk.
func (o *objectStore) sums() map[string]string {
	sums := map[string]string{}
	for path, sum := range sumsBelow(o, "/srv/objects/"+s3test.Bucket+"/episodes") {
		episode, _, _ := strings.Cut(strings.TrimPrefix(path, "./"), ".") // then come digest and commit
		sums["./"+episode+".tar.zst"] = sum
	}
	return sums
}

const (
	receiverConfig = "/etc/cis490/receiver.toml"
	storeConfig    = "/etc/cis490/receiver.s3.toml"
	diskConfig     = "/etc/cis490/receiver.disk.toml"
)

// writeKeys writes the store's keys for the receiver.
func writeKeys(rx machine, secret string) {
	rx.Write("/etc/cis490/s3", fmt.Sprintf("access_key_id = %s\nsecret_access_key = %s\n", s3test.Keys().ID, secret), 0o640)
	rx.Run("chgrp cis490 /etc/cis490/s3")
}

// writeFiles writes the store's keys and CA for the receiver.
func (o *objectStore) writeFiles(rx machine) {
	writeKeys(rx, s3test.Keys().Secret)
	rx.Write("/etc/cis490/store.pem", o.Read("/root/ca.pem"), 0o644)
}

// moveTo moves the tarballs to where another config keeps them.
func moveTo(rx machine, config string) {
	rx.Run("systemctl stop cis490-receiver && cis490 store copy --to " + config + " --final && cp -p " + config + " " + receiverConfig +
		" && systemctl start cis490-receiver && systemctl try-restart cis490-bootstrap") // both have read the config
	rx.Eventually(time.Minute, "the receiver is ready", "curl -fsk https://localhost:8443/readyz")
}

// take moves the receiver's tarballs to the object store.
func (o *objectStore) take(rx machine) {
	o.writeFiles(rx)
	rx.Run("cp -p " + receiverConfig + " " + diskConfig + " && cp -p " + receiverConfig + " " + storeConfig)
	setConfig(rx, storeConfig, map[string]string{
		"backend": "s3", "endpoint": "https://" + o.Addr + ":7071", "bucket": s3test.Bucket, "ca_file": "/etc/cis490/store.pem",
		"credentials_file": "/etc/cis490/s3", "delete_credentials_file": "/etc/cis490/s3",
	})
	moveTo(rx, storeConfig)
}

// chooseStore moves a new receiver's tarballs to an object store if make e2e STORE=s3 asks
// for one, and its rows to a database, too, with STORE=cluster.
func (f *fleet) chooseStore() {
	f.t.Helper()
	if os.Getenv("CIS490_LAB_STORE") == "cluster" {
		f.store = bootStore(f.t, f.Lab)
		f.rx.Eventually(time.Minute, "the receiver has a store", "test -s /var/lib/cis490/store_id")
		f.store.takeAll(f.t, f.Lab, f.rx)
		f.shared = true
		f.rx.State()
		return
	}
	f.store = chosenStore(f.t, f.Lab, f.rx)
}

func chosenStore(t *testing.T, l *lab.Lab, rx machine) *objectStore {
	t.Helper()
	switch at := os.Getenv("CIS490_LAB_STORE"); at {
	case "":
		return nil
	case "s3":
		o := bootStore(t, l)
		rx.Eventually(time.Minute, "the receiver has a store", "test -s /var/lib/cis490/store_id")
		o.take(rx)
		return o
	default:
		t.Fatalf("CIS490_LAB_STORE is %q: this scenario knows s3 or nothing", at)
		return nil
	}
}

// tarballs returns the machine and the folder that have the tarballs.
func (f *fleet) tarballs() (*lab.Host, string) {
	if f.store != nil {
		return f.store.Host, "/srv/objects/" + s3test.Bucket + "/episodes"
	}
	return f.rx, "/var/lib/cis490/episodes"
}

// A trouble of an object store.
type trouble struct {
	name   string
	begin  func(*fleet)
	lasts  time.Duration
	status string // of uploads
	detail string // of the alert
}

// TestStore_Away: a fleet ships while its object store is away for ten minutes. Hosts have
// to wait, the alert has the cause, everything is delivered afterwards, and no host is
// touched, also when the tarballs move back to the receiver's disk.
func TestStore_Away(t *testing.T) {
	inLane(t)
	meetTroubles(t, trouble{"away", func(f *fleet) { f.store.CutOff() }, 10 * time.Minute, "503", "does not answer"})
}

// TestStore_Troubles is TestStore_Away with a store that is full, asks for fewer requests,
// denies and loses answers.
func TestStore_Troubles(t *testing.T) {
	inLane(t)
	failing := func(fault s3test.Fault, n int) func(*fleet) { return func(f *fleet) { f.store.fail(fault, n) } }
	meetTroubles(t,
		trouble{"full", failing(s3test.Full, 1), time.Minute, "507", "is full"},
		trouble{"slow", failing(s3test.SlowDown, 1), time.Minute, "503", "asks for fewer requests"},
		trouble{"denied", func(f *fleet) { writeKeys(f.rx, "wrong") }, time.Minute, "503", "denies access"},
		trouble{"answers lost", failing(s3test.LoseAnswer, 1), time.Minute, "503", "does not answer"},
		trouble{"some answers lost", failing(s3test.LoseAnswer, 3), time.Minute, "", ""},
	)
}

func meetTroubles(t *testing.T, troubles ...trouble) {
	t.Helper()
	f := newFleet(t, "lab-01", "lab-02")
	for _, h := range f.hosts {
		stopRecording(h)
		addEpisodes(h, 3, 10)
		waitDrained(h, 2*time.Minute)
	}
	if f.store == nil {
		f.store = bootStore(t, f.Lab)
		f.store.take(f.rx)
	}
	f.watchFleetAt(5 * time.Minute)
	for _, trouble := range troubles {
		began := time.Now()
		trouble.begin(f)
		for _, h := range f.hosts {
			addEpisodes(h, 20, 100)
		}
		if trouble.detail != "" {
			a := f.waitAlert(3*time.Minute, "@receiver", "doctor-failing", "store.bucket")
			t.Logf("%s: alert after %s: %s; %s", trouble.name, time.Since(began).Round(time.Second), a.Reason, a.Fix)
			if !strings.Contains(a.Detail, trouble.detail) || !strings.Contains(a.Fix, "on the receiver: ") {
				t.Errorf("%s: the alert is %+v, want %q", trouble.name, a, trouble.detail)
			}
			status, wait, _ := strings.Cut(f.hosts[0].Run(uploadOf(f.hosts[0])), " ")
			if status != trouble.status || wait == "" || wait == "0" {
				t.Errorf("%s: an upload is answered %s, Retry-After %q, want %s", trouble.name, status, wait, trouble.status)
			}
		}
		time.Sleep(time.Until(began.Add(trouble.lasts)))
		f.store.Reconnect()
		f.store.work()
		writeKeys(f.rx, s3test.Keys().Secret)
		ended := time.Now()
		// serve is not ready for 15 minutes after an upload that failed and is not sent again.
		f.hosts[0].Eventually(2*time.Minute, "the upload is stored", uploadOf(f.hosts[0])+" | grep '^20[01]'")
		for _, h := range f.hosts {
			waitDrained(h, 11*time.Minute) // after a 507 a host waits 10 minutes at most
		}
		t.Logf("%s: all shipped %s after its end", trouble.name, time.Since(ended).Round(time.Second))
		f.waitAllResolved(2*time.Minute, "@receiver")
	}
	f.checkAnswers()
	stopped := map[string]bool{} // alerts of the recorders that this scenario stopped
	for _, a := range f.rows() {
		key := a.Host + " " + a.Symptom
		stopped[key] = strings.Contains(a.Reason, "units.active") || a.State == "resolved" && stopped[key]
		if !stopped[key] && (a.Host != "@receiver" || a.Symptom != "doctor-failing") {
			t.Errorf("a false alert: %+v", a)
		}
	}
	for _, h := range f.hosts {
		f.checkReconciled(h)
	}
	f.checkEachStoredOnce()
	t.Log(f.rx.Run("cis490 store verify --deep"))

	f.rx.Run("rm -r /var/lib/cis490/episodes")
	moveTo(f.rx, diskConfig)
	f.store = nil
	for _, h := range f.hosts {
		addEpisodes(h, 3, 10)
		waitDrained(h, time.Minute)
		f.checkReconciled(h)
	}
	f.checkEachStoredOnce()
}

// uploadOf returns a command that sends a small episode with the host's credentials, and
// prints the status and Retry-After.
func uploadOf(h *lab.Host) string {
	return `printf x >/root/x && id=01J00000000000000000000009 && curl -sS -o /dev/null \
-w '%{http_code} %header{retry-after}' --cacert /etc/cis490/certs/ca.crt --cert /etc/cis490/certs/lab-host.pem \
-H "Authorization: Bearer $(cat /etc/cis490/certs/bearer)" -H 'Content-Type: application/zstd' \
-H "X-Content-SHA256: $(sha256sum </root/x | cut -d' ' -f1)" -H 'X-Schema-Version: 1' -H 'X-Lab-Host: ` + h.Name + `' \
-H "X-Episode-Id: $id" -H "X-Cis490-Code-Commit: $(cis490 version --json | jq -r .commit)" \
-T /root/x https://collector.lab:8443/v1/episodes/` + h.Name + `/$id.tar.zst`
}

// checkAnswers checks that all uploads were stored or had to wait.
func (f *fleet) checkAnswers() {
	f.t.Helper()
	counts := map[string]int{}
	statuses := f.rx.Run("journalctl -u cis490-receiver --no-pager -o cat | grep 'method=PUT path=/v1/episodes/' | " +
		"grep -o ' status=[0-9]*' | cut -d= -f2")
	for status := range strings.FieldsSeq(statuses) {
		counts[status]++
	}
	f.t.Logf("answers to uploads: %v", counts)
	for status := range counts {
		if !slices.Contains([]string{"200", "201", "503", "507"}, status) {
			f.t.Errorf("%d uploads were answered %s", counts[status], status)
		}
	}
}
