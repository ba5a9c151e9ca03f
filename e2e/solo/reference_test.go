//go:build e2e || solo

package solo

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// referenceServer is the lower bound that the benchmarks compare with: it reads TLS,
// hashes, writes and syncs. It returns false unless this process was started for it.
func referenceServer() bool {
	dir := os.Getenv("CIS490_SOLO_PLAIN")
	if dir == "" {
		return false
	}
	fail := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "plain.crt"), filepath.Join(dir, "plain.key"))
	fail(err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	fail(err)
	fail(os.WriteFile(filepath.Join(dir, "plain.addr.new"), []byte(l.Addr().String()), 0o600))
	fail(os.Rename(filepath.Join(dir, "plain.addr.new"), filepath.Join(dir, "plain.addr")))
	for n := 0; ; n++ {
		c, err := l.Accept()
		fail(err)
		go func() {
			in := bufio.NewReaderSize(c, 128<<10)
			for k := 0; ; k++ {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				size, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
				fail(err)
				f, err := os.Create(filepath.Join(dir, fmt.Sprintf("plain-%d-%d", n, k)))
				fail(err)
				sum := sha256.New()
				buf := make([]byte, 128<<10)
				for size > 0 {
					got, err := in.Read(buf[:min(int64(len(buf)), size)])
					fail(err)
					sum.Write(buf[:got])
					_, err = f.Write(buf[:got])
					fail(err)
					size -= int64(got)
				}
				fail(f.Sync())
				fail(f.Close())
				_, err = io.WriteString(c, hex.EncodeToString(sum.Sum(nil))+"\n")
				fail(err)
			}
		}()
	}
}
