package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/wire"
	"cis490/receiver"
)

// Bounds of the files of tokens, in bytes.
const (
	maxToken  = 4 << 10 // the operator's
	maxTokens = 1 << 20
)

// TokensFile is the file of the named tokens, beside the operator's token. Root writes it,
// serve reads it at each request.
const TokensFile = "access-tokens.json"

// TokensPath returns the path of TokensFile.
func TokensPath(c config.Receiver) string { return filepath.Join(filepath.Dir(c.Operator), TokensFile) }

// olderTokens is the file of an older version, whose tokens all read data.
func olderTokens(c config.Receiver) string {
	return filepath.Join(filepath.Dir(c.Operator), "data-tokens.json")
}

// RemoveOlderTokens removes the file of an older version once TokensFile has its tokens.
// Without TokensFile, or after a rollback, the older file would restore revoked tokens.
func RemoveOlderTokens(fsys disk.FS, c config.Receiver) error {
	if err := fsys.Remove(olderTokens(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsys.SyncDir(filepath.Dir(c.Operator))
}

// ReadTokens returns the named tokens.
func ReadTokens(fsys disk.FS, c config.Receiver) (all []receiver.Token, err error) {
	path := TokensPath(c)
	b, err := disk.ReadFile(fsys, path, maxTokens)
	if errors.Is(err, fs.ErrNotExist) {
		path = olderTokens(c)
		b, err = disk.ReadFile(fsys, path, maxTokens)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = wire.Decode(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for i := range all {
		if all[i].Role == "" {
			all[i].Role = receiver.ReadData
		}
	}
	return all, nil
}

// tokens returns the operator's token and the named ones. With an error it returns those that it could read.
func tokens(fsys disk.FS, c config.Receiver) func() ([]receiver.Token, error) {
	return func() ([]receiver.Token, error) {
		named, err := ReadTokens(fsys, c)
		text, operr := disk.ReadText(fsys, c.Operator, maxToken)
		if text = strings.TrimSpace(text); operr == nil && text == "" {
			operr = fmt.Errorf("%s is empty", c.Operator)
		}
		if operr == nil {
			named = append(named, receiver.Token{Name: "operator", Role: receiver.Operate, Digest: receiver.DigestOf(text)})
		}
		return named, errors.Join(operr, err)
	}
}
