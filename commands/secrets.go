package commands

import (
	"bytes"
	"regexp"

	"cis490/internal/plain"
)

// maskWriter masks anything that looks like a secret in errors and logs: join tokens,
// bearers, PEM blocks, user and password of a URL, tokens in its query. Code that prints an
// error need not know which part came from a command line, a file or a server.
type maskWriter struct{ *plain.Writer }

var (
	accessKeys = regexp.MustCompile(`(cis490-(?:data|read|operate|release)-)[0-9a-f]{8,}`) // of access-token create
	joinTokens = regexp.MustCompile(`c490(rx)?\.[A-Za-z0-9_-]{8,}`)
	userinfo   = regexp.MustCompile(`(://)[^\s@]+@([^\s@/]*@)*`) // a password may contain '@'
	pem        = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|$)`)
	words      = regexp.MustCompile(`[\w-]{43,}`)
	inQuery    = regexp.MustCompile(`(?i)([?&][a-z_-]*(?:token|key|secret|pass|password|auth|sig|signature)=)[^&#\s"']+`)
)

// Write writes p with secrets replaced by an ellipsis. It returns len(p) unless the
// underlying writer fails.
func (m maskWriter) Write(p []byte) (int, error) {
	if _, err := m.Writer.Write(mask(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// maskAndEscape returns what a maskWriter would write.
func maskAndEscape(b []byte) []byte { return plain.Escape(mask(b)) }

func mask(b []byte) []byte {
	b = words.ReplaceAllFunc(b, maskBearer)
	b = pem.ReplaceAll(b, []byte("a PEM block"))
	b = accessKeys.ReplaceAll(b, []byte("${1}…"))
	b = joinTokens.ReplaceAll(b, []byte("c490.…"))
	b = userinfo.ReplaceAll(b, []byte("${1}…@"))
	return inQuery.ReplaceAll(b, []byte("${1}…"))
}

// maskBearer masks a bearer or an operator token: 32 bytes in base64. Two dashes before it
// begin a flag. It gets a whole word: a pattern with the characters around a token would
// miss the second of two tokens with one character between them.
func maskBearer(word []byte) []byte {
	const length = 43
	if before := word[:len(word)-length]; len(before) == 0 || bytes.HasSuffix(before, []byte("--")) {
		return append(bytes.Clone(before), "…"...)
	}
	return word
}
