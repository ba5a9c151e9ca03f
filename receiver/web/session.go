package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/listen"
	"cis490/internal/wire"
)

// The session cookie. With this prefix, browsers accept it only over HTTPS and from this
// host.
const (
	cookieName  = "__Host-cis490"
	sessionLife = 12 * time.Hour
	maxForm     = 16 << 10
)

// token reads the operator token. It is read each time, so that a new token takes effect
// at once and ends every session.
func (s *Site) token() (string, error) {
	token, err := s.o.Operator()
	if err != nil {
		return "", fmt.Errorf("%w: %w", wire.NewProblem(wire.NeedsOperator, "no operator token is set up on the receiver"), err)
	}
	return token, nil
}

// code returns an HMAC whose key is derived from the operator token and a purpose. A
// session cookie is expiry ‖ nonce ‖ HMAC: it survives a restart of serve, and ends with the
// token.
func code(token, purpose string, what []byte) []byte {
	key := sha256.Sum256([]byte("cis490 dashboard " + purpose + "\x00" + token))
	m := hmac.New(sha256.New, key[:])
	_, _ = m.Write(what) // never fails
	return m.Sum(nil)
}

func newSession(token string, now time.Time) string {
	what := binary.BigEndian.AppendUint64(nil, uint64(now.Add(sessionLife).Unix()))
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	what = append(what, nonce...)
	return base64.RawURLEncoding.EncodeToString(append(what, code(token, "session", what)...))
}

// validSession reports whether a cookie is a session that has not expired. One that ends
// later than any session from now was made while the clock was ahead, and is not valid.
func validSession(token, value string, now time.Time) bool {
	b, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(b) != 8+16+sha256.Size {
		return false
	}
	what, sum := b[:24], b[24:]
	left := int64(binary.BigEndian.Uint64(what)) - now.Unix()
	return hmac.Equal(sum, code(token, "session", what)) && left > 0 && left <= int64((sessionLife+time.Minute).Seconds())
}

// formCode returns the code in the forms of a session, which other sites cannot know.
func formCode(token, session string) string {
	return base64.RawURLEncoding.EncodeToString(code(token, "form", []byte(session)))
}

// operatorConns is how many connections all signed-in clients may have.
const operatorConns = 64

// Verified marks the connection of a request as the operator's.
func Verified(r *http.Request) { listen.Verified(r.Context(), "operator", operatorConns) }

func (s *Site) session(r *http.Request) (token, session string, ok bool) {
	token, err := s.token()
	if err != nil {
		return "", "", false
	}
	c, err := r.Cookie(cookieName)
	if err != nil || !validSession(token, c.Value, s.o.Now()) {
		return token, "", false
	}
	return token, c.Value, true
}

// signedIn calls h if the request has a session or the operator token as bearer. Other GET
// requests are redirected to the sign-in page.
func (s *Site) signedIn(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		token, _, ok := s.session(r)
		if ok {
			Verified(r)
			return h(w, r)
		}
		if sent, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); bearer && token != "" && r.Method == http.MethodGet {
			if same(sent, token) {
				Verified(r)
				return h(w, r)
			}
		}
		if r.Method != http.MethodGet || r.URL.Path == "/events" {
			return wire.NewProblem(wire.NeedsOperator, "sign in first")
		}
		http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		return nil
	}
}

func same(sent, want string) bool {
	a, b := sha256.Sum256([]byte(sent)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// changes calls h only for a form of this site that has the session's code.
func (s *Site) changes(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.form(w, r); err != nil {
			return err
		}
		token, session, ok := s.session(r)
		if !ok || !hmac.Equal([]byte(r.PostForm.Get("code")), []byte(formCode(token, session))) {
			return wire.NewProblem(wire.NeedsOperator, "the form is from another session: reload the page")
		}
		return h(w, r)
	}
}

func (s *Site) form(w http.ResponseWriter, r *http.Request) error {
	if err := s.origin.Check(r); err != nil {
		return fmt.Errorf("%w: %w", wire.NewProblem(wire.NeedsOperator, "another site sent the form"), err)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("%w: %w", wire.NewProblem(wire.Malformed, "cannot parse the form"), err)
	}
	return nil
}

type signInPage struct {
	Next  string
	Wrong string // why the last attempt failed
}

func (s *Site) signInForm(w http.ResponseWriter, r *http.Request) error {
	return s.render(w, r, http.StatusOK, "signin", "Sign in", signInPage{Next: local(r.URL.Query().Get("next"))})
}

func (s *Site) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := s.form(w, r); err != nil {
		return err
	}
	from, next := s.o.From(r), local(r.PostForm.Get("next"))
	if wait := s.limit.Wait(listen.Source(from)); wait > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(wait.Seconds())+1))
		return s.render(
			w,
			r,
			http.StatusTooManyRequests,
			"signin",
			"Sign in",
			signInPage{next, fmt.Sprintf("too many attempts from %s: wait %d seconds", check.Sanitize(from, 64), int(wait.Seconds())+1)},
		)
	}
	token, err := s.token()
	if err != nil {
		return err
	}
	if !same(strings.TrimSpace(r.PostForm.Get("token")), token) {
		s.limit.Allow(listen.Source(from))
		if omitted, ok := s.lines.Next(); ok {
			s.o.Log.Warn("sign-in refused", "from", from, "omitted", omitted)
		}
		return s.render(w, r, http.StatusUnauthorized, "signin", "Sign in", signInPage{next, "wrong operator token"})
	}
	Verified(r)
	s.o.Log.Info("signed in", "from", from)
	s.setCookie(w, newSession(token, s.o.Now()), int(sessionLife.Seconds()))
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) error {
	s.o.Log.Info("signed out", "from", s.o.From(r))
	s.setCookie(w, "", -1)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
	return nil
}

func (s *Site) setCookie(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// local returns a path on this site to redirect to; "/" if next is not one.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n") ||
		len(next) > 512 {
		return "/"
	}
	return next
}
