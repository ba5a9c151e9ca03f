// Package attack is an unverified client that tries to exhaust a server: it costs a
// receiver or an authority memory, connections, time and log lines, in every known way at
// once and from many addresses. Scenarios run it in a separate process, so that its own
// cost is not counted as the server's.
//
// It stops when its time has passed, or when its parent process ends.
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

// planVariable holds the plan of an attacking process, as JSON.
const planVariable = "CIS490_ATTACK"

// A Plan is the target, the sources and the length of an attack.
type Plan struct {
	Addr    string        // host and port of the server
	From    []string      // local addresses
	For     time.Duration // how long
	Workers int           // concurrent connections of each kind
	Get     string        // a path that anyone may get
	Post    string        // a path that accepts a body from verified clients
	Form    string        // a path that accepts a body from anyone; may be empty
	Only    []string      // kinds; empty means all
}

// Process runs a plan and returns true if this process was started by Arm.
func Process() bool {
	text := os.Getenv(planVariable)
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

// Arm makes a command run a plan. The program's main function must call Process. Its
// priority is low, because a remote attacker does not use the server's processors.
func (p Plan) Arm(cmd *exec.Cmd) (*exec.Cmd, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	cmd.Env = append(os.Environ(), planVariable+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// attacker is a running plan.
type attacker struct {
	Plan
	chains map[string]*tls.Certificate // client certificates
	next   atomic.Uint64
}

// run attacks and returns the number of connections of each kind.
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
						pause(ctx, 5*time.Millisecond)
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

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// dial connects from the next local address. Closing resets the connection, so that local
// ports do not run out.
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

// dialTLS is dial with TLS and one of the chains as client certificate.
func (a *attacker) dialTLS(ctx context.Context, chain string) (*tls.Conn, error) {
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
