package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
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
	"cis490/receiver"
)

// The session cookie. With this prefix, browsers accept it only over HTTPS and from this
// host.
const (
	cookieName  = "__Host-cis490"
	sessionLife = 12 * time.Hour
	maxForm     = 16 << 10
)

// code returns an HMAC whose key is derived from the digest of a token and a purpose. A
// session cookie is expiry ‖ nonce ‖ the token's name ‖ HMAC: it survives a restart of serve,
// and ends with the token.
func code(t receiver.Token, purpose string, what []byte) []byte {
	key := sha256.Sum256([]byte("cis490 dashboard " + purpose + "\x00" + string(t.Digest)))
	m := hmac.New(sha256.New, key[:])
	_, _ = m.Write(what) // never fails
	return m.Sum(nil)
}

// beforeName is the length of expiry and nonce, in bytes.
const beforeName = 8 + 16

func newSession(t receiver.Token, now time.Time) string {
	what := binary.BigEndian.AppendUint64(nil, uint64(now.Add(sessionLife).Unix()))
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	what = append(append(what, nonce...), t.Name...)
	return base64.RawURLEncoding.EncodeToString(append(what, code(t, "session", what)...))
}

// sessionOf returns the token of a session that has not expired. One that ends later than
// any session from now was made while the clock was ahead, and is not valid.
func sessionOf(all []receiver.Token, value string, now time.Time) (receiver.Token, bool) {
	b, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(b) <= beforeName+sha256.Size {
		return receiver.Token{}, false
	}
	what, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	left := int64(binary.BigEndian.Uint64(what)) - now.Unix()
	for _, t := range all {
		if t.Name == string(what[beforeName:]) && hmac.Equal(sum, code(t, "session", what)) {
			return t, left > 0 && left <= int64((sessionLife+time.Minute).Seconds()) && t.Role.May(receiver.Read)
		}
	}
	return receiver.Token{}, false
}

// formCode returns the code in the forms of a session, which other sites cannot know.
func formCode(t receiver.Token, session string) string {
	return base64.RawURLEncoding.EncodeToString(code(t, "form", []byte(session)))
}

// holderConns is how many connections all clients with one token may have.
const holderConns = 64

// Verified marks the connection of a request as that of a token's holder, and the request
// with its name.
func Verified(r *http.Request, t receiver.Token) *http.Request {
	listen.Verified(r.Context(), "token "+t.Name, holderConns)
	return r.WithContext(context.WithValue(r.Context(), holderKey{}, t.Name))
}

type holderKey struct{}

// Holder returns the name of who sent a request; "" if it is not verified.
func Holder(r *http.Request) string {
	name, _ := r.Context().Value(holderKey{}).(string)
	return name
}

// session returns the session of a request and its token. The tokens are read each time, so
// that a new one takes effect at once, and a revoked one ends its sessions.
func (s *Site) session(r *http.Request) (t receiver.Token, session string, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return receiver.Token{}, "", false
	}
	all, _ := s.o.Tokens() // those that it could read
	t, ok = sessionOf(all, c.Value, s.o.Now())
	return t, c.Value, ok
}

// token returns the token of a request: that of its session, or its bearer.
func (s *Site) token(r *http.Request) (t receiver.Token, ok bool) {
	if t, _, ok = s.session(r); ok {
		return t, true
	}
	text, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || r.Method != http.MethodGet {
		return receiver.Token{}, false
	}
	all, _ := s.o.Tokens() // those that it could read
	t, ok = receiver.FindToken(all, text)
	return t, ok && t.Role.May(receiver.Read)
}

// signedIn calls h if the request has a session, or a token as bearer. Other GET requests
// are redirected to the sign-in page.
func (s *Site) signedIn(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if t, ok := s.token(r); ok {
			return h(w, Verified(r, t))
		}
		if r.Method != http.MethodGet || r.URL.Path == "/events" {
			return wire.NewProblem(wire.NeedsOperator, "sign in first")
		}
		http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		return nil
	}
}

// changes calls h only for a form of this site that has the session's code, and only if the
// session's role allows it.
func (s *Site) changes(need receiver.Role, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.form(w, r); err != nil {
			return err
		}
		t, session, ok := s.session(r)
		if !ok || !hmac.Equal([]byte(r.PostForm.Get("code")), []byte(formCode(t, session))) {
			return wire.NewProblem(wire.NeedsOperator, "the form is from another session: reload the page")
		}
		if !t.Role.May(need) {
			return wire.NewProblem(wire.NeedsOperator, "this needs a token with the role %s; that of %s has %s", need, t.Name, t.Role)
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
	all, err := s.o.Tokens()
	t, ok := receiver.FindToken(all, strings.TrimSpace(r.PostForm.Get("token")))
	switch {
	case ok && !t.Role.May(receiver.Read):
		wrong := "this token only reads data: it does not open the dashboard"
		return s.render(w, r, http.StatusForbidden, "signin", "Sign in", signInPage{next, wrong})
	case !ok && err != nil:
		return fmt.Errorf("%w: %w", wire.NewProblem(wire.NeedsOperator, "the receiver cannot read its tokens"), err)
	case !ok:
		s.limit.Allow(listen.Source(from))
		if omitted, ok := s.lines.Next(); ok {
			s.o.Log.Warn("sign-in refused", "from", from, "omitted", omitted)
		}
		return s.render(w, r, http.StatusUnauthorized, "signin", "Sign in", signInPage{next, "wrong operator token"})
	}
	Verified(r, t)
	s.o.Log.Info("signed in", "by", t.Name, "from", from)
	s.setCookie(w, newSession(t, s.o.Now()), int(sessionLife.Seconds()))
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) error {
	s.o.Log.Info("signed out", "by", Holder(r), "from", s.o.From(r))
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
