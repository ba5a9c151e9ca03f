package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// SharedFiles returns the settings that name a file which all receivers share, by a name of
// the file.
func (c *Receiver) SharedFiles() map[string]*string {
	return map[string]*string{
		"operator": &c.Operator, "postgres": &c.Ledger.URLFile,
		"s3": &c.Store.S3.CredentialsFile, "s3-delete": &c.Store.S3.DeleteCredentials, "s3-ca": &c.Store.S3.CAFile,
		"notify": &c.Notify.URLsFile, "notify-token": &c.Notify.WebhookTokenFile,
	}
}

// Share returns the config of another receiver on the same database and bucket, with another
// name. The authority is not there. SharedFiles are in a folder.
func (c Receiver) Share(name, dir string) Receiver {
	other := DefaultReceiver()
	other.PublicURL, other.Name = c.PublicURL, name
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		other.Listen = ":" + port
	}
	other.Balancer, other.Gate, other.Limits, other.Store, other.Ledger = c.Balancer, c.Gate, c.Limits, c.Store, c.Ledger
	other.Fleet, other.Notify, other.Update, other.Rollout = c.Fleet, c.Notify, c.Update, c.Rollout
	other.Authority.URL, other.Authority.Elsewhere = c.Authority.URL, true
	other.Authority.Dir = filepath.Join(other.DataDir, "authority")
	for file, path := range other.SharedFiles() {
		if *path != "" {
			*path = filepath.Join(dir, file)
		}
	}
	return other
}

// Encode returns a config as TOML.
func Encode(c Receiver) (string, error) {
	b, err := toml.Marshal(c)
	return string(b), err
}

// Changed returns the values that are not the default, as TOML, by dotted key.
func (c Receiver) Changed() (map[string]string, error) {
	have, err := flat(c)
	if err != nil {
		return nil, err
	}
	usual, err := flat(DefaultReceiver())
	if err != nil {
		return nil, err
	}
	for key, value := range usual {
		if have[key] == value {
			delete(have, key)
		}
	}
	return have, nil
}

// flat returns all values of a config as TOML, by dotted key.
func flat(c Receiver) (map[string]string, error) {
	text, err := Encode(c)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := toml.Unmarshal([]byte(text), &tree); err != nil {
		return nil, err
	}
	all := map[string]string{}
	var walk func(prefix string, at map[string]any) error
	walk = func(prefix string, at map[string]any) error {
		for key, value := range at {
			if table, ok := value.(map[string]any); ok {
				if err := walk(prefix+key+".", table); err != nil {
					return err
				}
				continue
			}
			b, err := toml.Marshal(map[string]any{"v": value})
			if err != nil {
				return fmt.Errorf("%s%s: %w", prefix, key, err)
			}
			all[prefix+key] = strings.TrimSpace(strings.TrimPrefix(string(b), "v = "))
		}
		return nil
	}
	return all, walk("", tree)
}
