package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
)

// A recipe is the content of the hosts' image. Its digest names the image in the cache,
// so a changed recipe gives a new image.
type recipe struct {
	Suite, Arch string
	Packages    []string
	Masked      []string          // units that a lab does not need
	Files       map[string]string // content by path
}

func debian(more ...string) recipe {
	return recipe{
		Suite: "bookworm",
		Arch:  runtime.GOARCH,
		Packages: append([]string{
			"systemd", "systemd-sysv", "dbus", "sudo", "ca-certificates", "libnss-myhostname", // the host
			"iproute2", "procps", "curl", "jq", "strace", "zstd", "minisign", // what scenarios use
		}, more...),
		Masked: []string{
			"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
			"e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
			"console-getty.service", "getty.target", "getty-static.service",
			"systemd-firstboot.service", "systemd-pstore.service",
			"systemd-ask-password-console.path", "systemd-ask-password-wall.path",
			"dev-hugepages.mount", "sys-fs-fuse-connections.mount",
		},
		Files: map[string]string{
			"etc/machine-id":  "", // each host creates its own at the first boot
			"etc/hostname":    "",
			"etc/hosts":       "",
			"etc/resolv.conf": "", // hosts resolve names by /etc/hosts
		},
	}
}

func (r recipe) digest() (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode the recipe: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6]), nil
}

// ensure returns the image's folder, and builds the image if it does not exist. One
// process builds while others wait. A partial image belongs to the run and is swept with
// it; only a complete image gets the final name.
func (r recipe) ensure(cache string, run *run, logf func(string, ...any)) (string, error) {
	digest, err := r.digest()
	if err != nil {
		return "", err
	}
	image := filepath.Join(cache, "image-"+digest)
	lock, err := flock(image+".lock", 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	logf("lab: building the image %s, once", image)
	partial := filepath.Join(run.dir, "image.partial")
	if err := r.build(partial, run); err != nil {
		return "", fmt.Errorf("build the image: %w", err)
	}
	syscall.Sync() // the content must be durable before its name
	if err := os.Rename(partial, image); err != nil {
		return "", fmt.Errorf("publish the image: %w", err)
	}
	return image, nil
}

func (r recipe) build(dir string, run *run) error {
	args := []string{"--mode=root", "--format=directory", "--variant=minbase", "--include=" + strings.Join(r.Packages, ","), r.Suite, dir}
	var out bytes.Buffer
	cmd := exec.Command("mmdebstrap", append(args, aptSources(r.Suite)...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := run.start("_image", cmd); err != nil { // not a valid host name
		return err
	}
	if err := cmd.Wait(); err != nil {
		err = fmt.Errorf("mmdebstrap: %w\n%s", err, bytes.TrimSpace(out.Bytes()))
		if noMirror.Match(out.Bytes()) {
			err = fmt.Errorf("%w: %w", errMirror, err)
		}
		return err
	}
	for path, content := range r.Files {
		file := filepath.Join(dir, path)
		if err := os.RemoveAll(file); err != nil { // it may be a symlink
			return fmt.Errorf("replace a file: %w", err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write a file: %w", err)
		}
	}
	for _, unit := range r.Masked {
		link := filepath.Join(dir, "etc/systemd/system", unit)
		if err := os.RemoveAll(link); err != nil {
			return fmt.Errorf("mask a unit: %w", err)
		}
		if err := os.Symlink("/dev/null", link); err != nil {
			return fmt.Errorf("mask a unit: %w", err)
		}
	}
	// With this folder the journal survives a reboot.
	if err := os.MkdirAll(filepath.Join(dir, "var/log/journal"), 0o755); err != nil {
		return fmt.Errorf("make the journal's folder: %w", err)
	}
	return nil
}

// errMirror reports that no mirror has the suite or one of its packages.
var errMirror = errors.New("no mirror has it")

// noMirror matches apt's messages for errMirror.
var noMirror = regexp.MustCompile(`does not have a Release file|Failed to fetch|Could not resolve|Unable to locate package`)

// aptSources returns this machine's lists of Debian mirrors for the suite. Without one,
// mmdebstrap uses its default.
func aptSources(suite string) []string {
	names := regexp.MustCompile(`(?m)^(Suites:|deb ).*\b` + suite + `\b`)
	var found []string
	for _, path := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"} {
		if text, err := os.ReadFile(path); err == nil && names.Match(text) {
			found = append(found, path)
		}
	}
	return found
}
