package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
)

// DataToken is a token that reads the data and nothing else. Only its digest is stored.
type DataToken struct {
	Name    string       `json:"name"`
	Digest  ident.Digest `json:"sha256"`
	Created time.Time    `json:"created"`
}

// maxDataTokens bounds the file of the data tokens, in bytes.
const maxDataTokens = 1 << 20

// DataTokensPath returns the file of the data tokens, beside the operator token. Root writes
// it, serve reads it at each request.
func DataTokensPath(c config.Receiver) string {
	return filepath.Join(filepath.Dir(c.Operator), "data-tokens.json")
}

// ReadDataTokens returns all data tokens.
func ReadDataTokens(fsys disk.FS, c config.Receiver) (all []DataToken, err error) {
	path := DataTokensPath(c)
	b, err := disk.ReadFile(fsys, path, maxDataTokens)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return all, nil
}

// dataTokens returns the digests of the data tokens, by name.
func dataTokens(fsys disk.FS, c config.Receiver) func() (map[string]ident.Digest, error) {
	return func() (map[string]ident.Digest, error) {
		all, err := ReadDataTokens(fsys, c)
		digests := make(map[string]ident.Digest, len(all))
		for _, t := range all {
			digests[t.Name] = t.Digest
		}
		return digests, err
	}
}
