package listen

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// records is a client that writes arbitrary TLS records after a handshake.
type records struct {
	net.Conn
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

func expand(t *testing.T, secret []byte, label string, n int) []byte {
	t.Helper()
	info := append([]byte{0, byte(n), byte(len("tls13 " + label))}, "tls13 "+label+"\x00"...)
	b, err := hkdf.Expand(sha256.New, secret, string(info), n)
	must(t, err)
	return b
}

// records completes a handshake from 127.0.0.n.
func (f *fixture) records(n byte) *records {
	f.t.Helper()
	var keys bytes.Buffer
	raw := f.dial(n)
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys})
	must(f.t, c.Handshake())
	for line := range strings.Lines(keys.String()) {
		if field := strings.Fields(line); field[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(field[2])
			must(f.t, err)
			block, err := aes.NewCipher(expand(f.t, secret, "key", 16))
			must(f.t, err)
			aead, err := cipher.NewGCM(block)
			must(f.t, err)
			return &records{Conn: raw, aead: aead, iv: expand(f.t, secret, "iv", 12)}
		}
	}
	f.t.Fatal("no secret")
	return nil
}

// record encrypts a record.
func (r *records) record(kind byte, content []byte) []byte {
	plain := append(bytes.Clone(content), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(plain)+16))
	nonce := bytes.Clone(r.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(r.seq >> (56 - 8*i))
	}
	r.seq++
	return r.aead.Seal(head, nonce, plain, head)
}

// After the handshake an unverified client may send only as much as a request may have, of
// any kind: crypto/tls would buffer 256 KiB of a certificate message.
func TestListener_FewBytesBeforeARequest(t *testing.T) {
	f := newFixture(t, 8, 4)
	for name, kind := range map[string]byte{"a message of the handshake": 22, "a header in small records": 23} {
		t.Run(name, func(t *testing.T) {
			c := f.records(2)
			content := []byte{11, 4, 0, 0} // the head of a certificate of 256 KiB
			if kind == 23 {
				content = []byte("GET /")
			}
			for range 2000 { // more bytes than are read, fewer than a header or message may have
				if _, err := c.Write(c.record(kind, content)); err != nil {
					break // closed already
				}
				content = []byte("aaaa")
			}
			must(t, c.SetDeadline(time.Now().Add(5*time.Second))) // before a header's time is over
			closed(t, c)
		})
	}
	t.Run("a long header", func(t *testing.T) { // is none of them
		c := f.tls(2)
		if status, err := get(c, "/?as=lab-01", "A: "+strings.Repeat("a", 8<<10)+"\r\n"); err != nil || status != 200 {
			t.Error(status, err)
		}
	})
}

// Requests that net/http answers itself have the same limits as all others.
func TestServer_BoundsWhatNetHTTPAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"OPTIONS *":   "OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"expectation": "POST /body HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 4, 4)
			c := f.tls(2)
			_, err := io.WriteString(c, text)
			must(t, err)
			closed(t, c) // before the fixture's deadline
		})
	}
	t.Run("many", func(t *testing.T) {
		f := newFixture(t, 4, 4)
		c := f.tls(2)
		go func() { _, _ = io.WriteString(c, strings.Repeat("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 5000)) }()
		b, _ := io.ReadAll(c)
		if n := strings.Count(string(b), "HTTP/1.1 "); n > maxRequests {
			t.Errorf("%d answers", n)
		}
	})
}
