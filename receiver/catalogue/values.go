package catalogue

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/internal/plain"
)

// ParseQuery reads a query from the parameters of a URL. An unknown parameter is an error,
// because a misspelt filter would select everything.
func ParseQuery(v url.Values) (q Query, err error) {
	for name, values := range v {
		if len(values) != 1 {
			return q, fmt.Errorf("%.40s: there %d times", name, len(values))
		}
		if err := q.set(name, values[0]); err != nil {
			return q, fmt.Errorf("%.40s: %w", name, err)
		}
	}
	return q, nil
}

func (q *Query) set(name, value string) (err error) {
	word := func(to *string) error {
		*to = value
		switch {
		case len(value) > maxWord*4:
			return fmt.Errorf("longer than %d bytes", maxWord*4)
		case plain.Line(value, len(value)) != value: // rows have no such words; a NUL would reach into the keys of the index
			return errors.New("has control characters, or is not UTF-8")
		}
		return nil
	}
	switch name {
	case "host":
		q.Host, err = ident.ParseHost(value)
	case "profile":
		err = word(&q.Profile)
	case "class":
		err = word(&q.Class)
	case "verdict":
		err = word(&q.Verdict)
	case "state":
		if q.State = State(value); q.State != OK && q.State != Refused && q.State != Unread {
			err = fmt.Errorf("want %s, %s or %s, got %.40q", OK, Refused, Unread, value)
		}
	case "commit":
		q.Commit, err = ident.ParseCommit(value)
	case "sha256":
		q.Digest, err = ident.ParseDigest(value)
	case "from":
		q.From, err = ParseTime(value)
	case "to":
		q.To, err = ParseTime(value)
	case "order":
		if q.Newest = value == "newest"; value != "newest" && value != "oldest" {
			err = fmt.Errorf("want newest or oldest, got %.40q", value)
		}
	case "limit":
		if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > MaxLimit {
			err = fmt.Errorf("want 1 to %d, got %.40q", MaxLimit, value)
		}
	case "cursor":
		q.Cursor = value
	default:
		err = fmt.Errorf("unknown parameter; want host, profile, class, verdict, state, commit, sha256, from, to, order, limit or cursor")
	}
	return err
}

// ParseTime reads a time: RFC 3339, or a day in UTC such as 2026-05-01.
func ParseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("want a day such as 2026-05-01, or a time such as 2026-05-01T12:00:00Z; got %.40q", s)
	}
	return t, nil
}

// Values returns the parameters of a URL that ParseQuery reads as the query.
func (q Query) Values() url.Values {
	v := url.Values{}
	for _, x := range q.words() {
		v.Set(x[0], x[1])
	}
	if q.Newest {
		v.Set("order", "newest")
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Cursor != "" {
		v.Set("cursor", q.Cursor)
	}
	return v
}

// String returns the filters for people, such as "profile=hash class=benign".
func (q Query) String() string {
	var filters []string
	for _, x := range q.words() {
		filters = append(filters, x[0]+"="+x[1])
	}
	return cmp.Or(strings.Join(filters, " "), "all episodes")
}

// words are the query's filters, by name.
func (q Query) words() (all [][2]string) {
	for _, x := range [][2]string{
		{"host", string(q.Host)},
		{"profile", q.Profile},
		{"class", q.Class},
		{"verdict", q.Verdict},
		{"state", string(q.State)},
		{"commit", string(q.Commit)},
		{"sha256", string(q.Digest)},
		{"from", when(q.From)},
		{"to", when(q.To)},
	} {
		if x[1] != "" {
			all = append(all, x)
		}
	}
	return all
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
