package manifest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"aead.dev/minisign"
)

// Key is a minisign public key.
type Key struct{ public minisign.PublicKey }

// ParseKey parses a public key: the line for `minisign -P`, or a minisign .pub file.
func ParseKey(s string) (Key, error) {
	var k Key
	if err := k.public.UnmarshalText([]byte(strings.TrimSpace(s))); err != nil {
		return Key{}, fmt.Errorf("read public key: %w", err)
	}
	return k, nil
}

// String returns the line for `minisign -P`.
func (k Key) String() string { return k.public.String() }

// ID returns the key's id in minisign's format.
func (k Key) ID() string { return fmt.Sprintf("%016X", k.public.ID()) }

// File returns the key as a minisign .pub file.
func (k Key) File() ([]byte, error) {
	b, err := k.public.MarshalText()
	return append(b, '\n'), err
}

// SecretKey signs releases.
type SecretKey struct{ private minisign.PrivateKey }

// NewKey makes a key and returns it with the content of its file. The file is not
// encrypted; its permissions protect it.
func NewKey() (SecretKey, []byte, error) {
	_, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return SecretKey{}, nil, fmt.Errorf("make key: %w", err)
	}
	k := SecretKey{private}
	b, err := k.File()
	return k, b, err
}

// ParseSecretKey parses a secret key of NewKey or `minisign -G`. password is for an
// encrypted one.
func ParseSecretKey(b []byte, password string) (SecretKey, error) {
	b = []byte(strings.TrimSpace(string(b)))
	var k SecretKey
	var err error
	if minisign.IsEncrypted(b) {
		k.private, err = minisign.DecryptKey(password, b)
	} else {
		err = k.private.UnmarshalText(b)
	}
	if err != nil {
		return SecretKey{}, fmt.Errorf("read secret key: %w", err)
	}
	return k, nil
}

// File returns the unencrypted file that ParseSecretKey parses.
func (k SecretKey) File() ([]byte, error) {
	b, err := k.private.MarshalText()
	return append(b, '\n'), err
}

// Public returns the public key.
func (k SecretKey) Public() Key {
	public, _ := k.private.Public().(minisign.PublicKey)
	return Key{public}
}

// Sign returns the manifest and its signature file, prehashed like minisign's default. It
// is deterministic.
func (k SecretKey) Sign(m Manifest) (manifest, signature []byte, err error) {
	manifest, err = m.Encode()
	if err != nil {
		return nil, nil, err
	}
	r := minisign.NewReader(strings.NewReader(string(manifest)))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	trusted := fmt.Sprintf("%s %s seq %d", Product, m.Version, m.Seq)
	return manifest, append(r.SignWithComments(k.private, trusted, "signature of "+Product+" release"), '\n'), nil
}

// ErrSignature means that no trusted key signed a manifest.
var ErrSignature = errors.New("no trusted key signed this")

// Keyring holds the keys that a machine trusts for releases: the current one, then the next
// one.
type Keyring []Key

// ParseKeyring parses keys, one a line. It skips empty lines and comments.
func ParseKeyring(text string) (Keyring, error) {
	var ring Keyring
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "untrusted comment:") {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return nil, err
		}
		ring = append(ring, k)
	}
	if len(ring) > 2 {
		return nil, fmt.Errorf("read public keys: %d keys, want the current and the next", len(ring))
	}
	return ring, nil
}

// String returns the format that ParseKeyring parses.
func (r Keyring) String() string {
	var b strings.Builder
	for _, k := range r {
		b.WriteString(k.String() + "\n")
	}
	return b.String()
}

// Open verifies a manifest's signature, then parses it. It returns the key that signed.
func (r Keyring) Open(manifest, signature []byte) (Manifest, Key, error) {
	if len(manifest) > MaxManifest || len(signature) > maxSignature {
		return Manifest{}, Key{}, fmt.Errorf("%w: manifest of %d and signature of %d bytes are too large",
			ErrManifest, len(manifest), len(signature))
	}
	var sig minisign.Signature
	if err := sig.UnmarshalText(signature); err != nil {
		return Manifest{}, Key{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	for _, k := range r {
		if k.public.ID() != sig.KeyID || !minisign.Verify(k.public, manifest, signature) {
			continue
		}
		m, err := parse(manifest)
		return m, k, err
	}
	return Manifest{}, Key{}, fmt.Errorf("%w: the signature is by key %016X", ErrSignature, sig.KeyID)
}

// After returns the keyring after a release signed by signer: a signature by the next key
// retires the current one, and a release may name a new next key.
func (r Keyring) After(m Manifest, signer Key) Keyring {
	i := slices.IndexFunc(r, func(k Key) bool { return k.String() == signer.String() })
	if i < 0 {
		return r
	}
	ring := slices.Clone(r[i:])
	if next, err := ParseKey(m.NextKey); m.NextKey != "" && err == nil && next.String() != signer.String() {
		ring = Keyring{signer, next}
	}
	return ring
}
