package config

import (
	"net"
	"net/url"
	"regexp"
	"strings"
)

// Where tarballs are kept.
const (
	StoreLocal = "local"
	StoreS3    = "s3"
)

// Store configures where tarballs are kept.
type Store struct {
	Backend string `toml:"backend"` // StoreLocal or StoreS3
	S3      S3     `toml:"s3"`
}

// S3 configures the object store. Secrets are in files of their own.
type S3 struct {
	Endpoint          string `toml:"endpoint"` // without the bucket
	Region            string `toml:"region"`
	Bucket            string `toml:"bucket"`
	Prefix            string `toml:"prefix"`
	PathStyle         bool   `toml:"path_style"`
	CredentialsFile   string `toml:"credentials_file"`
	DeleteCredentials string `toml:"delete_credentials_file"` // empty: nothing is deleted
	CAFile            string `toml:"ca_file"`                 // empty: the system's CAs
}

// validate checks [store.s3] only if it is used, so that it can be prepared.
func (c Store) validate(p *problems) {
	if c.Backend != StoreLocal && c.Backend != StoreS3 {
		p.add("store.backend", `want "local" or "s3"`)
	}
	if c.Backend != StoreS3 {
		return
	}
	p.storeURL("store.s3.endpoint", c.S3.Endpoint)
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`).MatchString(c.S3.Bucket) {
		p.add("store.s3.bucket", "want 3 to 63 of a-z, 0-9, '.' and '-'")
	}
	if !regexp.MustCompile(`^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*$`).MatchString(c.S3.Prefix) || len(c.S3.Prefix) > 200 {
		p.add("store.s3.prefix", `want "" or names that each end in "/", such as "cis490/"`)
	}
	if c.S3.Region == "" {
		p.add("store.s3.region", `want a region, such as "us-east-1"`)
	}
	p.absolute("store.s3.credentials_file", c.S3.CredentialsFile)
	for key, path := range map[string]string{"store.s3.delete_credentials_file": c.S3.DeleteCredentials, "store.s3.ca_file": c.S3.CAFile} {
		if path != "" {
			p.absolute(key, path)
		}
	}
}

// storeURL accepts http only on this machine: tarballs would be readable on the way.
func (p *problems) storeURL(key, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port()),
		strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		p.add(key, `want "https://NAME:PORT", without the bucket`)
	case u.User != nil:
		p.add(key, "move the keys out of this file: into credentials_file")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		p.add(key, "want https: http is accepted on 127.0.0.1 only")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
