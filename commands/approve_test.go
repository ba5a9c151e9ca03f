package commands_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/agent/enroll"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

// admission is a running authority, and a machine that asks it to join.
func admission(t *testing.T) (url string, client *authority.Client, join func(url string) (codes chan enroll.Code, token chan string)) {
	t.Helper()
	dir := t.TempDir()
	c := config.DefaultReceiver().Authority
	c.Listen, c.URL, c.Dir, c.Socket = "127.0.0.1:0", "https://127.0.0.1:0", filepath.Join(dir, "authority"), filepath.Join(dir, "admin.sock")
	silent := slog.New(slog.DiscardHandler)
	auth, err := authority.New(authority.Options{Config: c, PublicURL: "https://127.0.0.1:1", FS: disk.OS{}, Log: silent, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- auth.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, auth.Close()); err != nil {
			t.Error(err)
		}
	})
	join = func(url string) (chan enroll.Code, chan string) {
		codes, token := make(chan enroll.Code, 1), make(chan string, 1)
		e, err := enroll.New(enroll.Options{FS: disk.OS{}, Host: "lab-01", Authority: url, Log: silent, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			text, err := e.Join(ctx, func(c enroll.Code) { codes <- c })
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
				close(codes)
			}
			token <- text
		}()
		return codes, token
	}
	return "https://" + auth.Addr().String(), authority.NewClient(c.Socket), join
}

func TestApprove_TheCodeOnTheMachine(t *testing.T) {
	t.Parallel()
	url, client, join := admission(t)
	codes, token := join(url)
	code := <-codes
	done, err := client.Approve(t.Context(), authority.Approval{Code: code.Digits})
	if err != nil || done.Root != code.Root {
		t.Fatalf("%+v %+v: %v", code, done, err)
	}
	tok, err := wire.ParseToken(<-token)
	if err != nil || tok.Host != "lab-01" || tok.Receiver != "https://127.0.0.1:1" || tok.Authority != url {
		t.Error(tok, err)
	}
}

// Who answers in the authority's place, and asks the authority in the machine's, makes the
// codes differ: the code on the machine admits nobody.
func TestApprove_SomeoneBetween(t *testing.T) {
	url, client, join := admission(t)
	own, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	fetch := func(method, path string, in []byte) []byte {
		r, err := http.NewRequest(method, url+path, bytes.NewReader(in))
		if err != nil {
			t.Error(err)
			return nil
		}
		res, err := direct.Do(r)
		if err != nil {
			t.Error(err)
			return nil
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		return b
	}
	between := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == wire.CAPath:
			b = pki.EncodeCerts(own.Cert)
		case strings.HasSuffix(r.URL.Path, wire.JoinSuffix): // the machine's commitment, for the true root
			roots, err := pki.ParseCerts(fetch(http.MethodGet, wire.CAPath, nil))
			var req wire.JoinRequest
			if err = errors.Join(err, json.Unmarshal(b, &req)); err != nil {
				t.Error(err)
				return
			}
			req.Root = pki.PinOf(roots[0])
			b, _ = json.Marshal(req)
			b = fetch(r.Method, r.URL.Path, b)
		default:
			b = fetch(r.Method, r.URL.Path, b)
		}
		_, _ = w.Write(b)
	}))
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := own.Server(key.Public(), []string{"127.0.0.1"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	between.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	between.StartTLS()
	defer between.Close()

	codes, _ := join(between.URL)
	code := <-codes
	if all, err := client.Waiting(t.Context()); err != nil || len(all) != 1 {
		t.Fatalf("the authority has %d requests: %v", len(all), err)
	}
	if done, err := client.Approve(t.Context(), authority.Approval{Code: code.Digits}); err == nil {
		t.Errorf("code %s admitted %+v", code.Digits, done)
	}
}
