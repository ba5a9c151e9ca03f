// Package s3test runs a real S3 server, versitygw, on loopback over a temporary folder,
// and a proxy in front of it that breaks requests. It is for tests.
//
// `make versitygw` builds versitygw once, which takes minutes, into the user's cache. Without
// it a test is skipped, with the command that builds it. Server keeps its objects below Dir;
// Kill and Start simulate a crash of the store. Nothing here is safe for a network.
//
//storage:files runs a server over a temporary folder, for tests
package s3test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/httpclient"
	"cis490/receiver/objects"
)

// Version is the versitygw of the tests. Before 1.8.0 its conditional writes were not atomic.
const Version = "v1.8.0"

// The bucket of a Server, and its only keys.
const (
	Bucket = "cis490"
	access = "cis490test"
	secret = "cis490testsecret"
	region = "us-east-1"
)

// startTimeout bounds a start of the server.
const startTimeout = 30 * time.Second

// Binary returns the path of versitygw.
func Binary() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "cis490-lab", "versitygw-"+Version, "versitygw"), err
}

// Server is a versitygw.
type Server struct {
	Dir  string // its objects
	Addr string
	cmd  *exec.Cmd
	done chan error
}

// New starts a server with an empty bucket, which ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	path, err := Binary()
	if err == nil {
		_, err = disk.OS{}.Lstat(path)
	}
	if err != nil {
		t.Skipf("no versitygw: make versitygw   # builds it once, in about 6 minutes: %v", err)
	}
	s := &Server{Dir: t.TempDir()}
	if err := (disk.OS{}).Mkdir(filepath.Join(s.Dir, Bucket), 0o750); err != nil {
		t.Fatal(err)
	}
	if s.Addr, err = freeAddr(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// freeAddr returns a free loopback address.
func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Start starts the server again after Kill, at the same address.
func (s *Server) Start() error {
	path, err := Binary()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(path, "--port", s.Addr, "posix", s.Dir) //nolint:gosec // a test binary
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+access, "ROOT_SECRET_KEY="+secret)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(s.cmd, s.done)
	return s.wait()
}

// wait waits until the server answers.
func (s *Server) wait() error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	client := httpclient.New(&http.Transport{DisableKeepAlives: true}, httpclient.Bounds{Total: time.Second, Answer: 1 << 20})
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	for {
		select {
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("versitygw ended: %w", err)
		case <-late.C:
			return errors.New("versitygw does not answer")
		case <-tick.C:
		}
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.Addr+"/", nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(r); err == nil {
			return res.Body.Close()
		}
	}
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	s.done <- <-s.done
}

// Options describe the bucket, at an endpoint that may be a proxy's.
func Options(addr string) objects.Options {
	keys := func() (objects.Keys, error) { return Keys(), nil }
	return objects.Options{Endpoint: "http://" + addr, Region: region, Bucket: Bucket, PathStyle: true, Keys: keys, DeleteKeys: keys}
}

// Keys are the server's keys.
func Keys() objects.Keys { return objects.Keys{ID: access, Secret: secret} }
