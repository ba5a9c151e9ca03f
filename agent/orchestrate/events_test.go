package orchestrate

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestListener_LastWords: events that a program sent before its end count, even if its
// connection was not accepted yet.
func TestListener_LastWords(t *testing.T) {
	for range 200 {
		out := make(chan report, 10)
		l, err := listen(filepath.Join(t.TempDir(), "events"), newClock(time.Now), out)
		if err != nil {
			t.Fatal(err)
		}
		l.started()
		c, err := net.Dial("unix", l.path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("event busy\nevent quiet\n")); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		l.drain(drainFor)
		if len(out) != 2 {
			t.Fatalf("%d reports, want 2", len(out))
		}
		l.close()
	}
}
