package enroll

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"cis490/agent/client"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// install writes an answer beside the current credentials and swaps it in.
func (e *Enroller) install(ctx context.Context, s state, key crypto.Signer, a wire.CertAnswer) (Result, error) {
	private, err := pki.EncodeKey(key)
	if err != nil {
		return Nothing, err
	}
	if err := e.clearNext(); err != nil { // an earlier answer's bearer must not remain
		return Nothing, err
	}
	if err := disk.MkdirAll(e.o.FS, e.path(nextDir), 0o700); err != nil {
		return Nothing, err
	}
	put := func(name string, content string) error {
		return disk.ReplaceBytes(e.o.FS, e.path(nextDir, name), 0o600, []byte(content))
	}
	if err := put(client.CAFile, a.CA); err != nil {
		return Nothing, err
	}
	if a.Bearer != "" {
		if err := put(client.BearerFile, a.Bearer+"\n"); err != nil {
			return Nothing, err
		}
	}
	if len(a.ReleaseKeys) > 0 {
		if err := put(ReleaseKeysFile, strings.Join(a.ReleaseKeys, "\n")+"\n"); err != nil {
			return Nothing, err
		}
	}
	// Last: the pair marks the new credentials as complete.
	if err := put(e.pairFile(), a.Certificate+string(private)); err != nil {
		return Nothing, err
	}
	return e.promote(ctx, s)
}

// promote tests the new credentials with the receiver and swaps them in, unless the
// receiver rejects them, or does not answer while the current ones still work.
func (e *Enroller) promote(ctx context.Context, s state) (Result, error) {
	what := Renewed
	if s.token != nil {
		what = Enrolled
	}
	err := e.probe(ctx, s)
	p, refused := errors.AsType[*wire.Problem](err)
	refused = refused && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden)
	switch {
	case err == nil:
	case refused && s.leaf != nil:
		if clr := e.clearNext(); clr != nil {
			return Nothing, clr
		}
		return Nothing, fault.Fix(fmt.Errorf("the receiver rejected the new certificate; keeping the current one: %w", err), p.Fix)
	case refused:
		e.o.Log.Warn("the receiver rejected the first certificate", "host", e.o.Host, "err", err)
	case what == Renewed && e.serves(s):
		e.o.Log.Info("cannot test the new certificate with the receiver; keeping the current one for now", "host", e.o.Host, "err", err)
		return Nothing, fault.Exit(fault.Fix(fmt.Errorf("test the new certificate with the receiver: %w", err),
			"nothing: cert-fetch retries within 5 minutes"), fault.TempFail)
	}
	if err := e.swap(); err != nil {
		return Nothing, fmt.Errorf("install the new certificate: %w", err)
	}
	if s.token != nil {
		if err := e.forgetToken(); err != nil {
			return Nothing, err
		}
	}
	if fresh, err := e.load(); err == nil && fresh.leaf != nil {
		e.o.Log.Info("installed a new certificate", "how", string(what), "host", e.o.Host, "serial", pki.Serial(fresh.leaf),
			"expires", fresh.leaf.NotAfter)
	}
	return what, nil
}

// probe pings the receiver with the new credentials. A renewal has no new bearer, so the
// current one is used.
func (e *Enroller) probe(ctx context.Context, s state) error {
	if e.server() {
		return nil
	}
	if s.token == nil {
		b, err := e.read(client.BearerFile)
		if err != nil {
			return err
		}
		if err := disk.ReplaceBytes(e.o.FS, e.path(nextDir, client.BearerFile), 0o600, b); err != nil {
			return err
		}
	}
	return e.o.Probe(ctx, e.path(nextDir))
}

// serves reports whether the current pair is valid for a while yet.
func (e *Enroller) serves(s state) bool {
	if s.leaf == nil || !s.bearer {
		return false
	}
	_, life := pki.Life(s.leaf)
	now := e.o.Now()
	return !now.Before(s.leaf.NotBefore) && now.Add(life/10).Before(s.leaf.NotAfter)
}

// swap installs the new files. Trust bundle and bearer come first. If a crash leaves the old
// pair with them, nothing is lost: a renewal keeps the bearer, and after an enrollment the
// old pair is worthless anyway. The rename of the pair completes the swap; after a crash
// before it, the next run repeats the swap.
func (e *Enroller) swap() error {
	for _, f := range []struct {
		name  string
		perm  fs.FileMode
		fresh bool // only where there is none
	}{{client.CAFile, 0o644, false}, {client.BearerFile, 0o600, false}, {ReleaseKeysFile, 0o644, true}} {
		b, err := e.read(nextDir + "/" + f.name)
		if err != nil {
			return err
		}
		if b == nil || (f.fresh && disk.Exists(e.o.FS, e.path(f.name))) {
			continue
		}
		if f.fresh {
			e.o.Log.Info("installed release keys from the authority", "path", e.path(f.name))
		}
		if have, err := e.read(f.name); err == nil && string(have) == string(b) {
			continue
		}
		if err := disk.ReplaceBytes(e.o.FS, e.path(f.name), f.perm, b); err != nil {
			return err
		}
	}
	if err := e.o.FS.Rename(e.path(nextDir, e.pairFile()), e.path(e.pairFile())); err != nil {
		return err
	}
	if err := errors.Join(e.o.FS.SyncDir(e.o.Dir), e.o.FS.SyncDir(e.path(nextDir))); err != nil {
		return err
	}
	return e.clearNext()
}

// clearNext removes the new credentials, the pair first, because they count only with the
// pair.
func (e *Enroller) clearNext() error {
	for _, name := range []string{e.pairFile(), client.BearerFile, client.CAFile, ReleaseKeysFile} {
		if err := errors.Join(e.remove(nextDir+"/"+name), e.remove(nextDir+"/"+name+disk.Partial)); err != nil {
			return err
		}
	}
	if err := e.remove(nextDir); !errors.Is(err, syscall.ENOTEMPTY) { // other files may remain
		return err
	}
	return nil
}
