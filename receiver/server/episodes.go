package server

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// putEpisode accepts an episode in this order: identity, already stored?, gate and
// limits, stage, make durable, identity again, publish, row, answer.
func (s *Server) putEpisode(w http.ResponseWriter, r *http.Request) (err error) {
	n := requestOf(r)
	n.route = receiver.RouteEpisode
	host, id, err := episodePath(r)
	if err != nil {
		return err
	}
	n.episode = id
	if _, err := s.identify(r, host); err != nil {
		return err
	}
	// The policy before the verdict: if it changes meanwhile, the host asks once more.
	policy := s.policyNow()
	defer func() { err = under(policy, err) }()
	u, err := uploadOf(r, host, id)
	if err != nil {
		return err
	}
	n.digest, n.commit = u.Digest, u.Commit

	have, found, err := s.store.Lookup(host, id)
	switch {
	case err != nil:
		return err
	case found && have.Digest == u.Digest:
		return s.receipt(w, http.StatusOK, have, u.Commit)
	case found:
		return conflict(have, u)
	}
	if err := s.gated(u); err != nil {
		return err
	}
	if limit := int64(s.o.Config.Limits.EpisodeSize); u.Size > limit {
		return wire.NewProblem(wire.TooLarge, "episode of %d bytes is over the limit of %d ([limits] episode_size)", u.Size, limit)
	}
	release, ok := s.uploads.acquire(string(host))
	if !ok {
		p := wire.NewProblem(wire.Busy, "the limit of parallel uploads is reached")
		p.RetryAfter = 5
		return p
	}
	defer release()
	booked, err := s.quotas.acquire(host, id, u.Size)
	if err != nil {
		return err
	}
	created := false
	defer func() { booked(created) }()

	in := s.body(w, r)
	working := interim{w: w}
	var row receiver.Entry
	row, created, err = s.store.Receive(u, in, func() error {
		in.done()
		working.begin()
		_, err := s.identify(r, host) // it may have changed while the body came
		return err
	})
	working.end()
	if err != nil {
		return receiveProblem(err, row, u)
	}
	if !created {
		return s.receipt(w, http.StatusOK, row, u.Commit)
	}
	return s.receipt(w, http.StatusCreated, row, u.Commit)
}

// under adds to a refusal the policy that caused it.
func under(policy func() string, err error) error {
	if p, ok := errors.AsType[*wire.Problem](err); ok && p.Status < 500 {
		p.Policy = policy()
	}
	return err
}

// receipt answers an upload. The commit is the host's, because a row that was repaired has none.
func (s *Server) receipt(w http.ResponseWriter, status int, row receiver.Entry, commit ident.Commit) error {
	s.contacts.Accepted(row.Host, commit)
	return answer(w, status, wire.Receipt{
		Host: row.Host, Episode: row.Episode, Digest: row.Digest, Size: row.Size,
		StoredAt: row.ReceivedAt, StoreID: s.store.ID(),
	})
}

func conflict(have receiver.Entry, u receiver.Upload) error {
	return wire.NewProblem(wire.OtherDigest, "stored is %s with %d bytes, sent is %s with %d", have.Digest, have.Size, u.Digest, u.Size)
}

func receiveProblem(err error, row receiver.Entry, u receiver.Upload) error {
	var bad *receiver.BodyError
	switch {
	case errors.Is(err, receiver.ErrConflict):
		return conflict(row, u)
	case errors.Is(err, receiver.ErrDigest):
		return refuse(wire.NewProblem(wire.BadDigest, "the body does not match %s", wire.HeaderDigest), err)
	case errors.As(err, &bad):
		return bodyProblem(err)
	}
	return err
}

// episodePath parses host and episode of the path.
func episodePath(r *http.Request) (ident.Host, ident.EpisodeID, error) {
	host, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return "", "", wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	name, ok := strings.CutSuffix(r.PathValue("file"), wire.TarballSuffix)
	if !ok {
		return "", "", wire.NewProblem(wire.Malformed, "path: %.80q does not end in %s", r.PathValue("file"), wire.TarballSuffix)
	}
	id, err := ident.ParseEpisodeID(name)
	if err != nil {
		return "", "", wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	return host, id, nil
}

// uploadOf parses the headers of a PUT. The commit may be missing here, because stored
// episodes do not need it.
func uploadOf(r *http.Request, host ident.Host, id ident.EpisodeID) (receiver.Upload, error) {
	u := receiver.Upload{Host: host, Episode: id, Size: r.ContentLength}
	for _, name := range []string{
		wire.HeaderDigest, wire.HeaderSchema, wire.HeaderHost, wire.HeaderEpisode, wire.HeaderCommit, "Content-Type",
	} {
		sent := r.Header.Values(name)
		if len(sent) == 0 && name != wire.HeaderCommit {
			return u, wire.NewProblem(wire.Malformed, "header %s is missing", name)
		}
		if len(sent) > 1 {
			return u, wire.NewProblem(wire.Malformed, "header %s was sent %d times", name, len(sent))
		}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != wire.ContentTypeEpisode {
		return u, wire.NewProblem(wire.Malformed, "Content-Type is %.80q, want %s", r.Header.Get("Content-Type"), wire.ContentTypeEpisode)
	}
	if v := r.Header.Get(wire.HeaderSchema); v != wire.SchemaVersion {
		return u, wire.NewProblem(wire.Malformed, "%s is %.80q, want %s", wire.HeaderSchema, v, wire.SchemaVersion)
	}
	if v := r.Header.Get(wire.HeaderEpisode); v != string(id) {
		return u, wire.NewProblem(wire.Malformed, "%s is %.80q, the path has %s", wire.HeaderEpisode, v, id)
	}
	var err error
	if u.Digest, err = ident.ParseDigest(r.Header.Get(wire.HeaderDigest)); err != nil {
		return u, wire.NewProblem(wire.Malformed, "%s: %s", wire.HeaderDigest, err)
	}
	if v := r.Header.Get(wire.HeaderCommit); v != "" {
		if u.Commit, err = ident.ParseCommit(v); err != nil {
			return u, wire.NewProblem(wire.Malformed, "%s: %s", wire.HeaderCommit, err)
		}
	}
	if u.Size < 0 {
		return u, wire.NewProblem(wire.Malformed, "Content-Length is missing: a chunked body is not accepted")
	}
	if u.Size == 0 {
		return u, wire.NewProblem(wire.Malformed, "the body is empty")
	}
	return u, nil
}

// gated refuses an upload whose commit the gate does not accept.
func (s *Server) gated(u receiver.Upload) error {
	if u.Commit == "" {
		return wire.NewProblem(wire.Unstamped, "header %s is missing", wire.HeaderCommit)
	}
	v, err := s.o.Gate.Judge(u.Commit)
	if err != nil {
		return notReady(err)
	}
	if !v.Accepted {
		p := wire.NewProblem(wire.Gated, "%s", v.Reason)
		p.YourCommit, p.HeadCommit = u.Commit, v.HeadCommit
		return p
	}
	return nil
}

func notReady(cause error) error {
	p := wire.NewProblem(wire.NotReady, "%s", cause)
	p.RetryAfter = 5
	return refuse(p, cause)
}
