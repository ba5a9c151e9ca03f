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

// A recipe says what the image of all hosts holds. Its digest names the image in
// the cache, so a changed recipe is a new image.
type recipe struct {
	Suite, Arch string
	Packages    []string
	Masked      []string          // units that make no sense in a lab
	Files       map[string]string // written as they are
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
			"etc/machine-id":  "", // each host makes its own at its first boot
			"etc/hostname":    "",
			"etc/hosts":       "",
			"etc/resolv.conf": "", // /etc/hosts is the lab's name service
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

// ensure returns the image's folder, and builds it first when it is not there. One
// process builds while others wait. The building belongs to the run, so that it is
// swept when it is killed; only a whole image gets the final name.
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
	syscall.Sync() // the name must not outlive a power cut that the content did not
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
	if err := run.start("_image", cmd); err != nil { // no host can have this name
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
		if err := os.RemoveAll(file); err != nil { // it may be a link to somewhere else
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
	// With this folder the journal is kept over a reboot.
	if err := os.MkdirAll(filepath.Join(dir, "var/log/journal"), 0o755); err != nil {
		return fmt.Errorf("make the journal's folder: %w", err)
	}
	return nil
}

// errMirror reports that the mirrors do not have what an image is made of.
var errMirror = errors.New("not to be had from the mirrors")

// noMirror matches what apt says then.
var noMirror = regexp.MustCompile(`does not have a Release file|Failed to fetch|Could not resolve|Unable to locate package`)

// aptSources returns this machine's own list of Debian mirrors where it has one
// for the suite, and nothing otherwise: mmdebstrap then knows where to look.
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
