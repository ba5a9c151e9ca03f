package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/web"
)

func (s *Server) routes() map[string]handler {
	return map[string]handler{
		wire.EpisodePattern:                          s.putEpisode,
		"POST " + wire.PingPath:                      s.ping,
		"POST " + wire.ReconcilePath:                 s.reconcile,
		"PUT " + wire.HostHealthPath + "/{host}":     s.putSnapshot,
		"GET " + wire.HostHealthPath:                 s.operator(s.getSnapshots),
		"GET " + wire.HostHealthPath + "/{host}":     s.operator(s.getSnapshot),
		"GET " + wire.GatePrefix + "{commit}":        s.getGate,
		"GET " + wire.ReleasesPath:                   s.getReleases,
		"GET " + wire.ReleaseBlobPrefix + "{digest}": s.getBlob,
		"GET " + wire.MetricsPath:                    s.operator(s.getMetrics),
		"GET " + wire.AuthorityPath:                  s.getAuthority,
		"GET " + wire.InstallScriptPath:              s.getInstallScript,
		"GET " + wire.HealthzPath:                    s.getHealthz,
		"GET " + wire.ReadyzPath:                     s.getReadyz,
	}
}

// operator allows only requests with the operator token.
func (s *Server) operator(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		want, err := s.o.Operator()
		if err != nil {
			return refuse(wire.NewProblem(wire.NeedsOperator, "the receiver has no operator token"), fmt.Errorf("read operator token: %w", err))
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sent, have := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(want))
		if !ok || subtle.ConstantTimeCompare(sent[:], have[:]) != 1 {
			return wire.NewProblem(wire.NeedsOperator, "this route needs the operator token")
		}
		web.Verified(r)
		return h(w, r)
	}
}

func (s *Server) getSnapshot(w http.ResponseWriter, r *http.Request) error {
	host, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	snap, err := contacts.ReadSnapshot(s.o.Backend.Docs, host)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.NewProblem(wire.NotFound, "no health report of %s was received", host)
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, snap)
}

// getAuthority says where a machine without a token asks to join. The machine does not
// trust the answer: a person compares a code that depends on the authority's root.
func (s *Server) getAuthority(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, wire.AuthorityAddress{URL: s.o.Config.Authority.URL})
}

// getInstallScript sends what a new machine pipes to a shell.
func (s *Server) getInstallScript(w http.ResponseWriter, _ *http.Request) error {
	if s.o.InstallScript == nil {
		return wire.NewProblem(wire.NotFound, "this receiver has no install script")
	}
	text, err := s.o.InstallScript()
	if err != nil {
		return refuse(wire.NewProblem(wire.NotFound, "no binary is published for new machines"), err)
	}
	w.Header().Set("Content-Type", "text/x-shellscript; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, err = io.WriteString(w, text)
	return err
}

func (s *Server) getGate(w http.ResponseWriter, r *http.Request) error {
	c, err := ident.ParseCommit(r.PathValue("commit"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	v, err := s.o.Gate.Judge(c)
	if err != nil {
		return notReady(err)
	}
	return answer(w, http.StatusOK, v)
}
