// Package attack is a client that proved nothing and wants to use a server up: every
// way that the project knows to cost a receiver or an authority memory, connections,
// time or log lines, at once and from many addresses. Scenarios start it as a process
// of its own, so that its work is not taken for the server's.
//
// It keeps nothing. It stops when its time is over, and at the latest when the process
// that started it ends.
package attack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// variable holds the plan of a process that attacks.
const variable = "CIS490_ATTACK"

// Plan is what is attacked, from where and for how long.
type Plan struct {
	Addr    string        // host and port of the server
	From    []string      // local addresses
	For     time.Duration // how long
	Workers int           // connections at a time of each kind
	Get     string        // a path that anyone may get
	Post    string        // a path that takes a body of a verified client
	Form    string        // a path that takes a body of anyone; may be empty
	Only    []string      // kinds; empty is all
}

// Process runs a plan and returns true if this process was started for one.
func Process() bool {
	text := os.Getenv(variable)
	if text == "" {
		return false
	}
	var p Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		panic(err)
	}
	fmt.Println(p.run())
	return true
}

// Arm makes a command, of a program whose main function calls Process, run a plan. Its
// priority is low: on another machine an attacker takes no processor from the server.
func (p Plan) Arm(cmd *exec.Cmd) (*exec.Cmd, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	cmd.Env = append(os.Environ(), variable+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// attacker is a running plan.
type attacker struct {
	Plan
	chains map[string]*tls.Certificate // that clients come with
	next   atomic.Uint64
}

// run attacks and returns how many connections each kind made.
func (p Plan) run() string {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) // else it is only less fair
	a := &attacker{Plan: p, chains: chains()}
	ctx, cancel := context.WithTimeout(context.Background(), p.For)
	defer cancel()
	kinds := a.kinds()
	made := map[string]*atomic.Int64{}
	var workers sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		if len(p.Only) > 0 && !slices.Contains(p.Only, name) {
			continue
		}
		n, kind := &atomic.Int64{}, kinds[name]
		made[name] = n
		for range p.Workers {
			workers.Go(func() {
				for ctx.Err() == nil {
					n.Add(1)
					if kind(ctx) != nil {
						rest(ctx, 5*time.Millisecond)
					}
				}
			})
		}
	}
	workers.Wait()
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(made)) {
		fmt.Fprintf(&out, "%s: %d\n", name, made[name].Load())
	}
	return out.String()
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// dial connects from the next of the local addresses. The connection is reset when it
// is closed, so that ports do not run out, and at the end.
func (a *attacker) dial(ctx context.Context) (net.Conn, error) {
	from := a.From[a.next.Add(1)%uint64(len(a.From))]
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
		_ = t.SetReadBuffer(4096)
	}
	return c, c.SetDeadline(time.Now().Add(a.For + time.Minute))
}

// open is dial with TLS, and with one of the chains.
func (a *attacker) open(ctx context.Context, chain string) (*tls.Conn, error) {
	raw, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	if pair := a.chains[chain]; pair != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}
