package commands

import (
	"regexp"

	"cis490/internal/plain"
)

// maskWriter hides what looks like a secret in errors and logs: a join token, a
// bearer, a PEM block, the user and password of a URL, a token in its query. Whoever
// prints an error need not know which part of it came from a command line, a file or a
// server.
type maskWriter struct{ *plain.Writer }

var (
	joinTokens = regexp.MustCompile(`c490\.[A-Za-z0-9_-]{8,}`)
	userinfo   = regexp.MustCompile(`(://)[^\s@]+@([^\s@/]*@)*`) // a password may hold what it should not
	pem        = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|$)`)
	bearers    = regexp.MustCompile(`(^|[^\w-]|--)[\w-]{43}([^\w-]|$)`) // operator tokens, too: 32 bytes in base64
	inQuery    = regexp.MustCompile(`(?i)([?&][a-z_-]*(?:token|key|secret|pass|password|auth|sig|signature)=)[^&#\s"']+`)
)

// Write writes p with its secrets as an ellipsis. It returns len(p) unless the writer
// below fails.
func (m maskWriter) Write(p []byte) (int, error) {
	if _, err := m.Writer.Write(mask(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// maskAndEscape returns what a maskWriter would write.
func maskAndEscape(b []byte) []byte { return plain.Escape(mask(b)) }

func mask(b []byte) []byte {
	b = bearers.ReplaceAll(b, []byte("${1}…${2}"))
	b = pem.ReplaceAll(b, []byte("a PEM block"))
	b = joinTokens.ReplaceAll(b, []byte("c490.…"))
	b = userinfo.ReplaceAll(b, []byte("${1}…@"))
	return inQuery.ReplaceAll(b, []byte("${1}…"))
}
