package s3

import (
	"errors"
	"strings"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// root is the prefix of all tarballs' keys.
const root = "episodes/"

// noCommit replaces an unknown commit.
var noCommit = strings.Repeat("-", 40)

// name returns an episode's name without its host: EPISODE.SHA256.COMMIT.
func name(e receiver.Entry) string {
	c := string(e.Commit)
	if c == "" {
		c = noCommit
	}
	return string(e.Episode) + "." + string(e.Digest) + "." + c
}

// keyOf returns the key of a tarball. It names the content.
func keyOf(e receiver.Entry) string { return prefixOf(e.Host) + name(e) + wire.TarballSuffix }

func prefixOf(h ident.Host) string { return root + string(h) + "/" }

// contentsPrefix is the prefix of the keys of an episode's contents.
func contents(k receiver.Key) string { return prefixOf(k.Host) + string(k.Episode) + "." }

// parseKey parses a key; ok is false for any other name.
func parseKey(key string) (e receiver.Entry, ok bool) {
	rest, ok := strings.CutPrefix(key, root)
	host, file, cut := strings.Cut(rest, "/")
	file, tarball := strings.CutSuffix(file, wire.TarballSuffix)
	if !ok || !cut || !tarball {
		return e, false
	}
	return parse(host, file)
}

func parse(host, file string) (e receiver.Entry, ok bool) {
	parts := strings.Split(file, ".")
	if len(parts) != 3 {
		return e, false
	}
	var errs [4]error
	e.Host, errs[0] = ident.ParseHost(host)
	e.Episode, errs[1] = ident.ParseEpisodeID(parts[0])
	e.Digest, errs[2] = ident.ParseDigest(parts[1])
	if parts[2] != noCommit {
		e.Commit, errs[3] = ident.ParseCommit(parts[2])
	}
	return e, errors.Join(errs[:]...) == nil
}
