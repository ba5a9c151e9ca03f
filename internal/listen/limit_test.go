package listen

import (
	"fmt"
	"testing"
	"time"
)

func TestSource(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:443":             "192.0.2.1",
		"192.0.2.1":                 "192.0.2.1",
		"[::ffff:192.0.2.1]:443":    "192.0.2.1",
		"[2001:db8:0:1:2:3:4:5]:80": "2001:db8:0:1::/64",
		"2001:db8:0:1:ffff::":       "2001:db8:0:1::/64",
		"[fe80::1%eth0]:80":         "fe80::/64",
		"":                          "",
		"not an address":            "",
		"192.0.2.1, 10.0.0.1":       "",
	} {
		if got := Source(address); got != want {
			t.Errorf("Source(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestLimiter_BoundsMemoryAndForgives(t *testing.T) {
	const burst, every = 20, 6 * time.Second
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := NewLimiter(burst, every, func() time.Time { return now })
	for i := range 3 * maxSources {
		l.Allow(Source(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	if n := len(l.sources); n > maxSources {
		t.Errorf("%d sources are remembered", n)
	}
	count := func(from string) (allowed int) {
		for range 3 * burst {
			if l.Allow(Source(from)) {
				allowed++
			}
		}
		return allowed
	}
	if wait := l.Wait("192.0.2.1"); wait != 0 {
		t.Errorf("a new address waits %s", wait)
	}
	if n := count("192.0.2.1"); n != burst {
		t.Errorf("%d allowed", n)
	}
	if wait := l.Wait("192.0.2.1"); wait != every {
		t.Errorf("after its burst an address waits %s, want %s", wait, every)
	}
	if n := count("2001:db8::1"); n != burst {
		t.Errorf("%d allowed", n)
	}
	if n := count("2001:db8::2"); n != 0 {
		t.Errorf("another address of the same /64: %d allowed", n)
	}
	now = now.Add(every)
	if n := count("192.0.2.1"); n != 1 {
		t.Errorf("%d allowed after one interval", n)
	}
}

func TestLines_CountsWhatItOmits(t *testing.T) {
	l := NewLines(3, time.Hour)
	logged := 0
	for range 10_000 {
		if _, ok := l.Next(); ok {
			logged++
		}
	}
	if logged != 3 || l.omitted != 9997 {
		t.Errorf("%d lines, %d omitted", logged, l.omitted)
	}
}
