//go:build e2e

package lab_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

func TestHosts_FindAndReachEachOtherByName(t *testing.T) {
	l := lab.New(t)
	rx := l.Boot("collector")
	l.BootAll("lab-01", "lab-02")

	if got := rx.Run("hostname; systemctl is-system-running"); got != "collector\nrunning" {
		t.Errorf("collector printed %q", got)
	}
	serve(rx, "hello from the collector")
	for _, name := range []string{"lab-01", "lab-02"} {
		h := l.Host(name)
		if got := h.Run("getent hosts collector.lab"); !strings.HasPrefix(got, rx.Addr+" ") {
			t.Errorf("%s resolves collector.lab to %q", name, got)
		}
		if got := h.Run(fetch("collector")); got != "hello from the collector" {
			t.Errorf("%s got %q", name, got)
		}
	}
	if got := rx.Run("getent hosts lab-01 | wc -l"); got != "1" {
		t.Errorf("a host booted earlier does not know lab-01")
	}
	ids := make(map[string]string)
	for _, name := range []string{"collector", "lab-01", "lab-02"} {
		for _, file := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id"} {
			id := l.Host(name).Read(file)
			if other := ids[id]; other != "" || len(id) < 33 {
				t.Errorf("%s has the %s %q, as has %q", name, file, id, other)
			}
			ids[id] = name
		}
	}
}

// Without separate cgroups, stopping a unit on one host killed it on the others.
func TestHosts_DoNotShareUnits(t *testing.T) {
	l := lab.New(t)
	hosts := l.BootAll("lab-01", "lab-02")
	for _, h := range hosts {
		h.Run("systemd-run --quiet --unit=worker sleep infinity")
	}
	hosts[0].Run("systemctl stop worker")
	if got := hosts[1].Run("systemctl is-active worker; pgrep -c sleep"); got != "active\n1" {
		t.Errorf("after a stop on lab-01, lab-02 printed %q", got)
	}
}

func TestHost_CutOff(t *testing.T) {
	l := lab.New(t)
	hosts := l.BootAll("collector", "lab-01")
	rx, h := hosts[0], hosts[1]
	serve(rx, "still here")
	h.Run(fetch("collector"))

	h.CutOff()
	if res := h.Try(fetch("collector")); res.Code == 0 {
		t.Errorf("a disconnected host reached the collector: %s", res)
	}
	h.Crash()
	h.Start()
	if res := h.Try(fetch("collector")); res.Code == 0 {
		t.Errorf("a crash reconnected the host: %s", res)
	}
	h.Reconnect()
	h.Eventually(10*time.Second, "the collector answers", fetch("collector"))
}

func TestHost_KeepsItsDisk(t *testing.T) {
	h := lab.New(t).Boot("lab-01", lab.WithTmpfs("/var/lib/cis490", "1M"))
	bootID := h.Read("/proc/sys/kernel/random/boot_id")
	machineID := h.Read("/etc/machine-id")
	h.Run("echo kept >/root/file; echo kept >/var/lib/cis490/file; logger -t scenario before the crash")
	// This unit leaves a file after a clean shutdown, not after a crash.
	h.Write("/etc/systemd/system/witness.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n"+
		"ExecStop=touch /root/clean\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	h.Run("systemctl enable --quiet --now witness; journalctl --sync")

	check := func(event, clean string) {
		t.Helper()
		if got := h.Run("cat /root/file /var/lib/cis490/file; ls /root/clean 2>/dev/null || true"); got != "kept\nkept"+clean {
			t.Errorf("after %s: %q", event, got)
		}
		if now := h.Read("/proc/sys/kernel/random/boot_id"); now == bootID {
			t.Errorf("after %s the boot id is the same", event)
		}
		if now := h.Read("/etc/machine-id"); now != machineID {
			t.Errorf("after %s the machine id has changed", event)
		}
	}
	h.Crash()
	if got := h.Read("/root/file") + h.Read("/var/lib/cis490/file"); got != "kept\nkept\n" {
		t.Errorf("while off, the disk holds %q", got)
	}
	h.Write("/root/while-off", "written while off", 0o600)
	h.Start()
	check("a crash", "")
	if got := h.Read("/root/while-off"); got != "written while off" {
		t.Errorf("the file written while off has %q", got)
	}
	h.PowerOff()
	if got := h.Journal(""); !strings.Contains(got, "before the crash") {
		t.Errorf("the journal of a stopped host has no line from before the crash:\n%s", got)
	}
	h.Start()
	check("a power off", "\n/root/clean")
	if got := h.Journal("witness"); strings.Count(got, "Finished") < 3 {
		t.Errorf("the unit's journal does not span boots:\n%s", got)
	}
	bootID = h.Read("/proc/sys/kernel/random/boot_id")
	h.Try("systemctl reboot")
	h.Eventually(30*time.Second, "the reboot is over",
		"! grep -q "+strings.TrimSpace(bootID)+" /proc/sys/kernel/random/boot_id && systemctl is-system-running --wait")
	check("a reboot", "\n/root/clean")
	if res := h.Try("head -c 2M /dev/zero >/var/lib/cis490/big"); !strings.Contains(res.Err, "No space left") {
		t.Errorf("the small disk is too large: %s", res)
	}
}

func TestHost_Commands(t *testing.T) {
	h := lab.New(t).Boot("lab-01")
	if res := h.Try("echo out; echo err >&2; exit 7"); res != (lab.Result{Out: "out\n", Err: "err\n", Code: 7}) {
		t.Errorf("Try = %s", res)
	}
	if res := h.Try("kill -KILL $$"); res.Code != 137 {
		t.Errorf("a killed command has %s", res)
	}
	if got := h.RunIn("a secret", "cat; echo"); got != "a secret" {
		t.Errorf("RunIn = %q", got)
	}
	began := time.Now()
	h.Run("sleep 300 & echo $! >/run/pid")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Run waited %v for a background process", took)
	}
	h.Run("kill -0 $(cat /run/pid)")
	h.Run("(sleep 1; touch /run/done) >/dev/null 2>&1 &")
	if got := h.Eventually(20*time.Second, "the file is there", "test -e /run/done && echo yes"); got != "yes" {
		t.Errorf("Eventually = %q", got)
	}
	script := t.TempDir() + "/script"
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho pushed\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Push(script, "/opt/some/where/script")
	if got := h.Run("/opt/some/where/script; stat -c %a:%U /opt/some/where/script"); got != "pushed\n755:root" {
		t.Errorf("the pushed script printed %q", got)
	}
	h.Write("/run/in it's own/ünit", "x\n", 0o640) // /run exists only in the host's mount namespace
	if got := h.Read("/run/in it's own/ünit"); got != "x\n" {
		t.Errorf("Read = %q", got)
	}
	h.Run("systemd-run --wait --quiet -p DynamicUser=yes -p ProtectSystem=strict -p StateDirectory=x -p SystemCallFilter=@system-service " +
		"touch /var/lib/x/y")
	h.Run("strace -f -e inject=fsync:error=EIO sync /root 2>&1 | grep -q EIO")
}

func TestBinary_IsStamped(t *testing.T) {
	h := lab.New(t).Boot("lab-01")
	commit := strings.Repeat("5a", 20)
	binary := lab.BinaryWith(t, "7.8.9", commit)
	if again := lab.BinaryWith(t, "7.8.9", commit); again != binary {
		t.Errorf("the same build has two paths: %s and %s", binary, again)
	}
	h.Push(binary, "/usr/local/bin/cis490")
	if got := h.Run("cis490 version --json"); !strings.Contains(got, "7.8.9") || !strings.Contains(got, commit) {
		t.Errorf("version of a stamped binary: %s", got)
	}
}

func TestLabs_SideBySide(t *testing.T) {
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			hosts := l.BootAll("collector", "lab-01")
			serve(hosts[0], fmt.Sprintf("lab %d", i))
			for range 5 {
				if got := hosts[1].Run(fetch("collector")); got != fmt.Sprintf("lab %d", i) {
					t.Errorf("lab %d reached %q", i, got)
				}
			}
			out, err := l.Command("curl", "-sS", "http://"+hosts[0].Addr+":8080").Output()
			if err != nil || strings.TrimSpace(string(out)) != fmt.Sprintf("lab %d", i) {
				t.Errorf("beside lab %d: %q, %v", i, out, err)
			}
			hosts[0].Crash()
		})
	}
}

// serve starts a server on port 8080 that answers every request with one line.
func serve(h *lab.Host, line string) {
	h.Write("/usr/local/bin/hello", "#!/bin/sh\nwhile read -r l && [ ${#l} -gt 1 ]; do :; done\n"+
		"printf 'HTTP/1.0 200 OK\\r\\n\\r\\n%s\\n' '"+line+"'\n", 0o755)
	h.Write("/etc/systemd/system/hello.socket", "[Socket]\nListenStream=8080\nAccept=yes\n", 0o644)
	h.Write("/etc/systemd/system/hello@.service", "[Service]\nStandardInput=socket\nExecStart=hello\n", 0o644)
	h.Run("systemctl start hello.socket")
}

func fetch(host string) string { return "curl -sS --max-time 2 http://" + host + ":8080" }
