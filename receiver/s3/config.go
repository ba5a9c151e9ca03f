package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/objects"
)

// Bucket opens the bucket of a config. An unreadable CA file is an error of each request,
// because it may become readable.
func Bucket(fsys disk.FS, c config.S3) (*objects.Bucket, error) {
	o := objects.Options{
		Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, Prefix: c.Prefix, PathStyle: c.PathStyle,
		Keys: keysFile(fsys, c.CredentialsFile),
	}
	if c.DeleteCredentials != "" {
		o.DeleteKeys = keysFile(fsys, c.DeleteCredentials)
	}
	if c.CAFile != "" {
		pem, err := disk.ReadFile(fsys, c.CAFile, disk.Small)
		if err != nil {
			return nil, fault.Fix(fmt.Errorf("read [store.s3] ca_file: %w", err), "ls -l "+c.CAFile+"   # must be readable by serve's user")
		}
		if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(pem) {
			return nil, fault.Fix(fmt.Errorf("read [store.s3] ca_file: %s has no certificate", c.CAFile),
				"openssl x509 -in "+c.CAFile+" -noout -subject")
		}
	}
	return objects.Open(o)
}

// Configured returns the backend of a config whose tarballs are in a bucket; base opens the
// one for everything else. If the bucket cannot be opened, every operation that needs it fails.
func Configured(base func(local.Options) receiver.Backend, o local.Options, c config.Receiver, log *slog.Logger) receiver.Backend {
	bucket, err := Bucket(o.FS, c.Store.S3)
	if err != nil {
		b := base(o)
		b.Episodes = unusable{b.Episodes, err}
		b.Serve = func() (receiver.Store, error) { return nil, err }
		return b
	}
	o.Place = bucket.Name()
	return Open(Options{
		Base: base(o), Bucket: bucket, FS: o.FS, Dir: o.Dir, Reserve: o.Reserve, Uploads: c.Limits.Uploads, Now: o.Now, Log: log,
	})
}

// unusable are tarballs that cannot be reached.
type unusable struct {
	receiver.Episodes // for Free
	err               error
}

// Open returns the error.
func (u unusable) Open(receiver.Key) (receiver.Tarball, error) { return nil, u.err }

// OpenRow returns the error.
func (u unusable) OpenRow(receiver.Entry) (receiver.Tarball, error) { return nil, u.err }

// Holders returns the error.
func (u unusable) Holders([]ident.Host) ([]ident.Host, error) { return nil, u.err }

// List yields the error.
func (u unusable) List(context.Context) iter.Seq2[receiver.Stored, error] {
	return func(yield func(receiver.Stored, error) bool) { yield(receiver.Stored{}, u.err) }
}

// Check returns the error.
func (u unusable) Check(context.Context, int, time.Time) (receiver.Checked, error) {
	return receiver.Checked{}, u.err
}

// keysFile returns the keys in a file. It reads the file again when it changes.
func keysFile(fsys disk.FS, path string) func() (objects.Keys, error) {
	var mu sync.Mutex
	var keys objects.Keys
	var size int64
	var at time.Time
	return func() (objects.Keys, error) {
		mu.Lock()
		defer mu.Unlock()
		fi, err := fsys.Lstat(path)
		if err == nil && keys.ID != "" && fi.Size() == size && fi.ModTime().Equal(at) {
			return keys, nil
		}
		var content []byte
		if err == nil {
			content, err = disk.ReadFile(fsys, path, disk.Small)
		}
		if err != nil {
			return objects.Keys{}, fault.Fix(fmt.Errorf("read keys of the object store: %w", err),
				"sudo install -m 640 -g cis490 FILE "+path+"   # FILE has the lines access_key_id = ID and secret_access_key = SECRET")
		}
		if keys, err = parseKeys(string(content)); err != nil {
			return objects.Keys{}, fault.Fix(fmt.Errorf("read keys of the object store: %s: %w", path, err),
				"sudo editor "+path+"   # the lines access_key_id = ID and secret_access_key = SECRET")
		}
		size, at = fi.Size(), fi.ModTime()
		return keys, nil
	}
}

// parseKeys parses the two lines. Its errors contain no values.
func parseKeys(content string) (k objects.Keys, err error) {
	for n, line := range strings.Split(content, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") { // AWS's credentials file has a section
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.TrimPrefix(strings.TrimSpace(key), "aws_") {
		case "access_key_id":
			k.ID = value
		case "secret_access_key":
			k.Secret = value
		default:
			ok = false
		}
		if !ok || value == "" {
			return objects.Keys{}, fmt.Errorf("line %d is not access_key_id = ID or secret_access_key = SECRET", n+1)
		}
	}
	if k.ID == "" || k.Secret == "" {
		return objects.Keys{}, errors.New("access_key_id or secret_access_key is missing")
	}
	return k, nil
}
