package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/web"
)

func (s *Server) routes() map[string]handler {
	return map[string]handler{
		wire.EpisodePattern:                          s.putEpisode,
		"POST " + wire.PingPath:                      s.ping,
		"POST " + wire.ReconcilePath:                 s.reconcile,
		"PUT " + wire.HostHealthPath + "/{host}":     s.putSnapshot,
		"GET " + wire.HostHealthPath:                 s.may(receiver.Read, s.getSnapshots),
		"GET " + wire.HostHealthPath + "/{host}":     s.may(receiver.Read, s.getSnapshot),
		"GET " + wire.GatePrefix + "{commit}":        s.getGate,
		"GET " + wire.ReleasesPath:                   s.getReleases,
		"GET " + wire.ReleaseBlobPrefix + "{digest}": s.getBlob,
		"GET " + wire.MetricsPath:                    s.may(receiver.Read, s.getMetrics),
		"GET " + wire.AuthorityPath:                  s.getAuthority,
		"GET " + wire.InstallScriptPath:              s.getInstallScript,
		"GET " + wire.HealthzPath:                    s.getHealthz,
		"GET " + wire.ReadyzPath:                     s.getReadyz,
	}
}

// may allows only requests with a token of a role.
func (s *Server) may(need receiver.Role, h func(w http.ResponseWriter, r *http.Request) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		all, err := s.o.Tokens()
		text, sent := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		t, found := receiver.FindToken(all, text)
		switch {
		case sent && found && t.Role.May(need):
			return h(w, web.Verified(r, t))
		case sent && found:
			return wire.NewProblem(wire.NeedsOperator, "this route needs a token with the role %s; that of %s has %s", need, t.Name, t.Role)
		case err != nil:
			return refuse(wire.NewProblem(wire.NeedsOperator, "the receiver cannot read its tokens"), fmt.Errorf("read tokens: %w", err))
		}
		return wire.NewProblem(wire.NeedsOperator, "this route needs the operator token")
	}
}

// revoked returns an error if the bearer of a request is no longer a token. Answers that
// take hours ask it as they go on. Root's requests have no bearer.
func (s *Server) revoked(r *http.Request) error {
	text, sent := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	all, err := s.o.Tokens()
	if _, found := receiver.FindToken(all, text); !sent || found {
		return nil
	}
	return errors.Join(errors.New("its token was revoked"), err)
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
