package authority

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestOnlyRoot_UnknownPeerIsRefused(t *testing.T) {
	a := &Authority{o: Options{Log: discard()}}
	w := httptest.NewRecorder()
	a.onlyRoot(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let in") })).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/tokens", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d", w.Code)
	}
}

func TestLimiter_BoundsMemoryAndForgives(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := newLimiter(func() time.Time { return now })
	for i := range 3 * maxSources {
		l.failure(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	if n := len(l.sources); n > maxSources {
		t.Errorf("%d sources are remembered", n)
	}
	count := func(from string) (allowed, firsts int) {
		for range 3 * burst {
			ok, first := l.failure(from)
			if ok {
				allowed++
			}
			if first {
				firsts++
			}
		}
		return allowed, firsts
	}
	if allowed, firsts := count("192.0.2.1"); allowed != burst || firsts != 1 {
		t.Errorf("%d allowed, told %d times", allowed, firsts)
	}
	if allowed, _ := count("2001:db8::1"); allowed != burst {
		t.Errorf("%d allowed", allowed)
	}
	if allowed, _ := count("2001:db8::2"); allowed != 0 {
		t.Errorf("another address of the same /64: %d allowed", allowed)
	}
	now = now.Add(refill)
	if allowed, _ := count("192.0.2.1"); allowed != 1 {
		t.Errorf("%d allowed after one refill", allowed)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
