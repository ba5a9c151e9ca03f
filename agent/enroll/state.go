package enroll

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"cis490/agent/client"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// maxFile bounds the size of a file here, in bytes.
const maxFile = 1 << 20

// state is the content of certs_dir.
type state struct {
	key     crypto.Signer     // of the pair; nil if there is none
	leaf    *x509.Certificate // nil if there is none that fits the key
	bearer  bool
	token   *wire.Token
	damaged error         // why the join token cannot be used
	pending crypto.Signer // the key made for this token
	stray   bool          // a pending key of another token
	next    bool          // complete new credentials await the swap
}

// load reads certs_dir. It treats unusable files as missing, except that it reports a
// damaged join token, which only a person can replace.
func (e *Enroller) load() (state, error) {
	var s state
	b, err := e.read(e.pairFile())
	if err != nil {
		return s, err
	}
	s.key, s.leaf = parsePair(b)
	if b, err = e.read(client.BearerFile); err != nil {
		return s, err
	}
	s.bearer = len(b) > 0 || e.server() // a receiver needs none
	s.token, s.damaged = e.readToken()
	if b, err = e.read(PendingFile); err != nil {
		return s, err
	}
	if key, err := pki.ParseKey(b); err == nil && s.token != nil && strings.HasPrefix(string(b), pendingFor(s.token)) {
		s.pending = key
	} else {
		s.stray = b != nil
	}
	if b, err = e.read(nextDir + "/" + e.pairFile()); err != nil {
		return s, err
	}
	s.next = b != nil
	return s, nil
}

// tidy finishes an earlier run: it removes the token and key of a completed enrollment, and
// files that belong to none.
func (e *Enroller) tidy(s state) (state, error) {
	if s.token != nil && s.bearer && s.leaf != nil && sameKey(s.pending, s.key) {
		if err := e.forgetToken(); err != nil {
			return s, err
		}
		s.token, s.pending = nil, nil
	}
	if s.stray {
		if err := e.remove(PendingFile); err != nil {
			return s, err
		}
		s.stray = false
	}
	if !s.next {
		if disk.Exists(e.o.FS, e.path(nextDir)) { // incomplete
			return s, e.clearNext()
		}
		return s, nil
	}
	b, err := e.read(nextDir + "/" + e.pairFile())
	if err != nil {
		return s, err
	}
	key, leaf := parsePair(b)
	whose := s.key
	if s.token != nil {
		whose = s.pending
	}
	if leaf == nil || !sameKey(key, whose) || pki.Due(leaf, string(e.o.Host), e.o.Now()) {
		s.next = false
		return s, e.clearNext()
	}
	return s, nil
}

// forgetToken removes the token first: with a token but without its key, the next run would
// make another key, which the authority would reject as a second use of the token.
func (e *Enroller) forgetToken() error {
	return errors.Join(e.remove(TokenFile), e.remove(PendingFile))
}

func (e *Enroller) readToken() (*wire.Token, error) {
	b, err := e.read(TokenFile)
	if err != nil || b == nil {
		return nil, err
	}
	t, err := e.parseToken(string(b))
	if err == nil && !t.For(e.o.Host) {
		err = fmt.Errorf("join token is for %s, this host is %s", t.Name(), e.o.Host)
	}
	if err != nil {
		return nil, fault.Exit(fault.Fix(fmt.Errorf("%s: %w", e.path(TokenFile), err), e.joinFix()), fault.Config)
	}
	return &t, nil
}

// read returns a file's content, or nil if it does not exist.
func (e *Enroller) read(name string) ([]byte, error) {
	b, err := disk.ReadFile(e.o.FS, e.path(name), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Fix(fmt.Errorf("read credentials: %w", err), "sudo cis490 cert-fetch")
	}
	return b, nil
}

func (e *Enroller) remove(name string) error {
	if err := e.o.FS.Remove(e.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// parsePair returns the key of a pair, and the certificate if it matches. With a damaged
// certificate, the key still proves the identity.
func parsePair(b []byte) (crypto.Signer, *x509.Certificate) {
	if b == nil {
		return nil, nil
	}
	if pair, err := pki.ParsePair(b); err == nil {
		if key, ok := pair.PrivateKey.(crypto.Signer); ok {
			return key, pair.Leaf
		}
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, nil
	}
	return key, nil
}

func sameKey(a, b crypto.Signer) bool {
	if a == nil || b == nil {
		return false
	}
	ka, errA := pki.KeyID(a.Public())
	kb, errB := pki.KeyID(b.Public())
	return errA == nil && errB == nil && ka == kb
}

// pendingFor returns the first line of a pending key's file: the hash of the token's
// secret.
func pendingFor(t *wire.Token) string {
	sum := sha256.Sum256([]byte(t.Secret))
	return "# made for the join token with sha256 " + string(ident.Digest(hex.EncodeToString(sum[:]))) + "\n"
}
