// Package objects is a bucket of an object store that speaks S3.
//
// It uses the oldest form of S3, which every store implements: path or host style, a
// signature over the body's SHA-256, no trailers, checksum headers or conditions. So the
// store itself rejects a body with another digest. Probe detects a store that does not
// check; then Put reads every object back.
//
// Its only state is the clock of the last answer. Put is idempotent if a key names its
// content: a retry, a lost answer or a repeated request writes the same bytes. Only Delete
// deletes objects.
package objects

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cis490/internal/dial"
	"cis490/internal/httpclient"
)

// Sizes of requests, in bytes.
const (
	singlePut  = 64 << 20 // larger bodies are sent in parts
	partSize   = 16 << 20
	maxParts   = 10_000
	maxAnswer  = 8 << 20 // except the content of an object
	partsAhead = 4       // parts of one object that are sent at the same time
)

// connections bounds the open connections to the store.
const connections = 128

// Times of one request.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 60 * time.Second // from a body's last byte to the answer's first
	idleTimeout   = 55 * time.Second
)

// Keys are an access key and its secret.
type Keys struct{ ID, Secret string }

// Options describe a bucket.
type Options struct {
	Endpoint   string // URL of the store, without the bucket
	Region     string
	Bucket     string
	Prefix     string // prefix of every key
	PathStyle  bool   // the bucket is in the path, not in the host name
	Keys       func() (Keys, error)
	DeleteKeys func() (Keys, error) // of a key that may delete; nil: nothing can be deleted
	Roots      *x509.CertPool       // CAs of the store's certificate; nil: the system's
}

// Bucket is a bucket. Its methods may be called from many goroutines.
type Bucket struct {
	o       Options
	calls   calls
	single  int64        // bytes: larger bodies are sent in parts
	part    int64        // bytes
	skew    atomic.Int64 // nanoseconds by which the store's clock is ahead of this one
	observe atomic.Pointer[func(op, outcome string, took time.Duration)]
	checks  atomic.Bool // the store rejected Probe's body with a wrong digest
}

// Object is an object in a listing.
type Object struct {
	Key  string // without the prefix of Options
	Size int64  // bytes
	At   time.Time
}

// Open returns a bucket. It sends no request.
func Open(o Options) (*Bucket, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	b := &Bucket{o: o, single: singlePut, part: partSize}
	t := &http.Transport{
		DialContext:           dial.Context,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}, // stores are older than hosts
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConnsPerHost:   connections,
		MaxConnsPerHost:       connections,
	}
	bounded := &exchange{small: httpclient.Strict(t, maxAnswer), large: httpclient.Strict(t, 0), skew: &b.skew}
	client := func(keys func() (Keys, error)) (*minio.Client, error) {
		lookup := minio.BucketLookupDNS
		if o.PathStyle {
			lookup = minio.BucketLookupPath
		}
		return minio.New(u.Host, &minio.Options{
			Creds: credentials.New(followed{keys}), Secure: u.Scheme == "https", Region: o.Region,
			Transport: bounded, BucketLookup: lookup, MaxRetries: 1, // Bucket has its own retries
		})
	}
	c, err := client(o.Keys)
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	b.calls = callsOf(minio.Core{Client: c})
	if o.DeleteKeys != nil {
		deleter, err := client(o.DeleteKeys)
		if err != nil {
			return nil, fmt.Errorf("object store: %w", err)
		}
		b.calls.remove = deleter.RemoveObject
	}
	return b, nil
}

// Name returns the bucket's location, for messages.
func (b *Bucket) Name() string {
	return fmt.Sprintf("s3://%s/%s at %s", b.o.Bucket, b.o.Prefix, b.o.Endpoint)
}

// Observe sets a function that is called after each request and retry with the operation,
// its outcome in one word, and its duration.
func (b *Bucket) Observe(f func(op, outcome string, took time.Duration)) { b.observe.Store(&f) }

// Skew returns how far the store's clock is ahead of this one, by its last answer.
func (b *Bucket) Skew() time.Duration { return time.Duration(b.skew.Load()) }

// ChecksDigests reports whether the store rejected Probe's body with a wrong digest.
func (b *Bucket) ChecksDigests() bool { return b.checks.Load() }

// CanDelete reports whether there is a key that may delete.
func (b *Bucket) CanDelete() bool { return b.calls.remove != nil }

// exchange bounds answers and records the store's clock.
type exchange struct {
	small, large http.RoundTripper
	skew         *atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (e *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	t := e.small
	if r.Method == http.MethodGet && r.URL.RawQuery == "" { // an object's content; its reader bounds it
		t = e.large
	}
	began := time.Now()
	res, err := t.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		// A Date has whole seconds, and is from between the request and the answer.
		now := time.Now()
		switch {
		case at.Add(time.Second).Before(began):
			e.skew.Store(int64(at.Sub(began)))
		case at.After(now):
			e.skew.Store(int64(at.Sub(now)))
		default:
			e.skew.Store(0)
		}
	}
	return res, nil
}

// followed returns the current keys to minio.
type followed struct{ keys func() (Keys, error) }

// RetrieveWithCredContext implements credentials.Provider.
func (f followed) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return f.Retrieve()
}

// Retrieve implements credentials.Provider.
func (f followed) Retrieve() (credentials.Value, error) {
	k, err := f.keys()
	if err != nil {
		return credentials.Value{}, errors.Join(ErrDenied, err)
	}
	return credentials.Value{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SignerType: credentials.SignatureV4}, nil
}

// IsExpired makes minio retrieve the keys for each request.
func (followed) IsExpired() bool { return true }
