package ship_test

import (
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"cis490/agent/client/clienttest"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// receiptOf is what an honest receiver would answer.
func receiptOf(r *http.Request) wire.Receipt {
	n, _ := io.Copy(io.Discard, r.Body)
	return wire.Receipt{
		Host: clienttest.Host, Episode: ident.EpisodeID(r.Header.Get(wire.HeaderEpisode)), Digest: ident.Digest(r.Header.Get(wire.HeaderDigest)),
		Size: n, StoredAt: time.Now(), StoreID: "store-1",
	}
}

// receipt answers with a modified receipt.
func receipt(spoil func(*wire.Receipt)) func(*clienttest.Receiver) {
	return put(func(w http.ResponseWriter, r *http.Request) {
		rec := receiptOf(r)
		spoil(&rec)
		clienttest.JSON(w, http.StatusCreated, rec)
	})
}

// put answers every PUT.
func put(lie func(http.ResponseWriter, *http.Request)) func(*clienttest.Receiver) {
	return func(r *clienttest.Receiver) {
		r.OnPut = func(w http.ResponseWriter, req *http.Request) bool { lie(w, req); return true }
	}
}

// problem answers with a status and a body that may look like a problem of cis490.
func problem(status int, text string) func(*clienttest.Receiver) {
	return put(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.ContentTypeProblem)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

// TestOnce_LyingPeersChangeNothing: whatever answers in the receiver's place, the episode
// stays in the outbox.
func TestOnce_LyingPeersChangeNothing(t *testing.T) {
	for name, spoil := range map[string]func(*clienttest.Receiver){
		"portal":   put(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>log in</html>") }),
		"404":      put(http.NotFound),
		"400":      put(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad request", http.StatusBadRequest) }),
		"redirect": put(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }),
		"redirect to another episode": put(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, wire.EpisodePath(clienttest.Host, "01J00000000000000000000009"), http.StatusPermanentRedirect)
		}),
		"empty 200": put(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }),
		"204": put(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}),
		"cut after the last byte": put(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		}),
		"receipt cut off": put(func(w http.ResponseWriter, r *http.Request) {
			rec := receiptOf(r)
			w.Header().Set("Content-Length", "5000")
			clienttest.JSON(w, http.StatusCreated, rec)
			panic(http.ErrAbortHandler)
		}),
		"receipt for another digest":     receipt(func(r *wire.Receipt) { r.Digest = ident.Digest(make([]byte, 64)) }),
		"receipt for another size":       receipt(func(r *wire.Receipt) { r.Size-- }),
		"receipt for another host":       receipt(func(r *wire.Receipt) { r.Host = "lab-02" }),
		"receipt of another store":       receipt(func(r *wire.Receipt) { r.StoreID = "store-9" }),
		"receipt of no store":            receipt(func(r *wire.Receipt) { r.StoreID = "" }),
		"somebody's problem":             problem(413, `{"type":"about:blank","status":413,"fix":"x"}`),
		"a problem under another status": problem(502, `{"type":"tag:cis490,2026:problem:too-large","status":413,"fix":"x"}`),
		"endless slow answer": put(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", wire.ContentTypeJSON)
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(50 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		}),
		"silence": put(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not see that the host has gone
			<-r.Context().Done()
		}),
		"wrong server name":   func(r *clienttest.Receiver) { r.Names = []string{"elsewhere.example"} },
		"expired certificate": func(r *clienttest.Receiver) { r.Life = -time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := clienttest.Start(t, spoil)
			h := newHost(t, r)
			h.cfg.Ship.IdleTimeout = config.Duration(2 * time.Second)
			id := h.record(good)
			if err := h.once(); err == nil {
				t.Error("a lie was taken for success")
			}
			if got := h.names("quarantine"); len(got) != 0 {
				t.Errorf("set aside on a lie: %v", got)
			}
			if got := h.names("shipped"); len(got) != 1 {
				t.Errorf("retired on a lie: %v", got)
			}
			if !disk.Exists(disk.OS{}, filepath.Join(h.dir, "episodes", string(id), episode.DoneMarker)) {
				t.Error("the episode is gone")
			}
		})
	}
}
