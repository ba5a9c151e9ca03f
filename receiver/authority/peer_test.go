package authority

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
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

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
