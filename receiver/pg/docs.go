package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"cis490/receiver"
)

var errTooLarge = errors.New("larger than the limit")

// docs are the documents, each a row.
type docs struct{ db *db }

// workOf returns the work whose lease fences a document, if this process has it.
func workOf(name string) receiver.Work {
	switch name {
	case receiver.FleetCheckDoc:
		return receiver.Checking
	case receiver.RolloutDoc:
		return receiver.Rolling
	}
	if strings.HasPrefix(name, receiver.MirrorDocs) {
		return receiver.Publishing
	}
	return ""
}

// Load reads the row, unless it is too large.
func (d docs) Load(name string, limit int64) (content []byte, err error) {
	var size int64
	err = d.db.do(context.Background(), func(ctx context.Context, c conn) error {
		return missing(c.QueryRow(ctx, `SELECT octet_length(body), CASE WHEN octet_length(body) <= $2 THEN body END
			FROM documents WHERE name = $1`, name, limit).Scan(&size, &content))
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("load %s: %w", name, err)
	case size > limit:
		return nil, fmt.Errorf("load %s: %w of %d bytes", name, errTooLarge, limit)
	}
	return content, nil
}

// missing converts pgx's error for no row.
func missing(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fs.ErrNotExist
	}
	return err
}

// Save replaces the row.
func (d docs) Save(name string, content []byte) error {
	if content == nil {
		content = []byte{}
	}
	err := d.db.tx(workOf(name), func(ctx context.Context, c conn) error {
		_, err := c.Exec(ctx, `INSERT INTO documents (name, body) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE
			SET body = excluded.body, version = excluded.version, saved = excluded.saved`, name, content)
		return err
	})
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// Replace replaces the row of a version, or adds it.
func (d docs) Replace(name, version string, content []byte) error {
	statement := "UPDATE documents SET body = $2, version = nextval('document_versions'), saved = clock_timestamp() " +
		"WHERE name = $1 AND version::text = $3"
	if version == "" {
		statement = "INSERT INTO documents (name, body) SELECT $1, $2 WHERE $3 = '' ON CONFLICT (name) DO NOTHING"
	}
	err := d.db.tx(workOf(name), func(ctx context.Context, c conn) error {
		tag, err := c.Exec(ctx, statement, name, content, version)
		if err == nil && tag.RowsAffected() == 0 {
			err = receiver.ErrChanged
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return nil
}

// Remove deletes the row.
func (d docs) Remove(name string) error {
	return d.db.do(context.Background(), func(ctx context.Context, c conn) error {
		_, err := c.Exec(ctx, "DELETE FROM documents WHERE name = $1", name)
		return err
	})
}

// Stat reads the row without its content.
func (d docs) Stat(name string) (doc receiver.Doc, err error) {
	var version int64
	err = d.db.do(context.Background(), func(ctx context.Context, c conn) error {
		return missing(c.QueryRow(ctx, "SELECT octet_length(body), saved, version FROM documents WHERE name = $1", name).
			Scan(&doc.Size, &doc.Saved, &version))
	})
	if err != nil {
		return receiver.Doc{}, fmt.Errorf("stat %s: %w", name, err)
	}
	doc.Version = strconv.FormatInt(version, 10)
	return doc, nil
}

// All reads the rows without their contents, with one request.
func (d docs) All(prefix string) (all map[string]receiver.Doc, err error) {
	err = d.db.do(context.Background(), func(ctx context.Context, c conn) error {
		found, err := c.Query(ctx, "SELECT name, octet_length(body), saved, version::text FROM documents WHERE starts_with(name, $1)", prefix)
		if err != nil {
			return err
		}
		all = map[string]receiver.Doc{}
		var name string
		var doc receiver.Doc
		_, err = pgx.ForEachRow(found, []any{&name, &doc.Size, &doc.Saved, &doc.Version}, func() error {
			all[name] = doc
			return nil
		})
		return err
	})
	return all, err
}

// Writable tests that the database can be written.
func (d docs) Writable(string) error { return d.db.usable() }
