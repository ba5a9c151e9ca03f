package commands

import (
	"regexp"

	"cis490/internal/plain"
)

// maskWriter hides what looks like a secret in errors and logs: a join token, the
// user and password of a URL, a token in its query. Whoever prints an error need not
// know which part of it came from a command line, a file or a server.
type maskWriter struct{ *plain.Writer }

var (
	joinTokens = regexp.MustCompile(`c490\.[A-Za-z0-9_-]{8,}`)
	userinfo   = regexp.MustCompile(`(://)[^/?#\s"'@]+@`)
	inQuery    = regexp.MustCompile(`(?i)([?&][a-z_-]*(?:token|key|secret|pass|password|auth|sig|signature)=)[^&#\s"']+`)
)

// Write writes p with its secrets as an ellipsis. It returns len(p) unless the writer
// below fails.
func (m maskWriter) Write(p []byte) (int, error) {
	b := joinTokens.ReplaceAll(p, []byte("c490.…"))
	b = userinfo.ReplaceAll(b, []byte("${1}…@"))
	b = inQuery.ReplaceAll(b, []byte("${1}…"))
	if _, err := m.Writer.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}
