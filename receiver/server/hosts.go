package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/gate"
)

// maxReconcile bounds the body of a reconcile request with MaxPairs pairs.
const maxReconcile = 256 << 10

// ping records a host's ping and answers whether the host may ship.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) error {
	n := requestOf(r)
	n.route = receiver.RoutePing
	host, err := s.identify(r, "")
	if err != nil {
		return err
	}
	var p wire.Ping
	if err := s.readJSON(w, r, wire.MaxPing, &p); err != nil {
		return err
	}
	n.commit = p.Commit
	s.contacts.Ping(host, p)
	if p.Leaving { // a host that leaves does not repeat its ping
		if err := s.contacts.Save(); err != nil {
			return err
		}
	}
	if s.o.Releases != nil {
		s.o.Releases.Ping(host, p)
	}
	rules, err := s.o.Gate.Rules()
	if err != nil {
		return notReady(err)
	}
	verdict, err := s.o.Gate.Judge(p.Commit)
	if err != nil {
		return notReady(err)
	}
	policy, err := s.policy(rules)
	if err != nil {
		return err
	}
	pong := wire.Pong{ServerTime: s.o.Now().UTC(), HeadCommit: rules.Head, Gate: verdict, Policy: policy, StoreID: s.store.ID()}
	if s.o.FleetCheck != nil {
		pong.FleetCheck = s.o.FleetCheck().UTC()
	}
	return answer(w, http.StatusOK, pong)
}

// policy is the digest of everything that decides about an episode. When it changes,
// hosts send refused episodes again. Several receivers have the same.
func (s *Server) policy(rules gate.Rules) (string, error) {
	if s.o.Cluster != nil { // rules are those of all
		own, _, err := s.o.Gate.Own()
		if err != nil {
			return "", err
		}
		rules = own
	}
	own, err := s.judges(rules)
	return s.o.Cluster.Policy(own), err
}

// judges is the digest of what this receiver alone decides by.
func (s *Server) judges(rules gate.Rules) (string, error) {
	b, err := json.Marshal(struct {
		Gate    gate.Rules
		Limits  any
		Version any
	}{rules, s.o.Config.Limits, s.o.Build})
	if err != nil {
		return "", fmt.Errorf("digest policy: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), nil
}

// policyNow returns a function that computes the present policy; "" before the gate is
// loaded.
func (s *Server) policyNow() func() string {
	rules, err := s.o.Gate.Rules()
	return func() string {
		if err != nil {
			return ""
		}
		policy, _ := s.policy(rules) // empty: the host takes the policy of its last ping
		return policy
	}
}

// reconcileAtOnce bounds the concurrent lookups of one request, for a storage on another
// machine.
const reconcileAtOnce = 16

// reconcile returns which of a host's episodes are stored.
func (s *Server) reconcile(w http.ResponseWriter, r *http.Request) error {
	requestOf(r).route = receiver.RouteReconcile
	host, err := s.identify(r, "")
	if err != nil {
		return err
	}
	var in wire.Reconcile
	if err := s.readJSON(w, r, maxReconcile, &in); err != nil {
		return err
	}
	if len(in.Episodes) > wire.MaxPairs {
		return tooLarge("%d pairs are over the limit of %d", len(in.Episodes), wire.MaxPairs)
	}
	out := wire.Reconciled{StoreID: s.store.ID(), Stored: []ident.EpisodeID{}}
	if slices.ContainsFunc(in.Episodes, func(p wire.Pair) bool { return p.Episode == "" || p.Digest == "" }) {
		return wire.NewProblem(wire.Malformed, "a pair has no episode or no sha256")
	}
	stored := make([]bool, len(in.Episodes))
	var g errgroup.Group
	g.SetLimit(reconcileAtOnce)
	for i, p := range in.Episodes {
		g.Go(func() error {
			row, found, err := s.store.Lookup(host, p.Episode)
			stored[i] = found && row.Digest == p.Digest
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, p := range in.Episodes {
		if stored[i] {
			out.Stored = append(out.Stored, p.Episode)
		}
	}
	return answer(w, http.StatusOK, out)
}

// putSnapshot stores a host's health report. The gate does not apply to it.
func (s *Server) putSnapshot(w http.ResponseWriter, r *http.Request) error {
	requestOf(r).route = receiver.RouteSnapshot
	host, err := ident.ParseHost(r.PathValue("host"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	if _, err := s.identify(r, host); err != nil {
		return err
	}
	var report check.Report
	if err := s.readJSON(w, r, wire.MaxSnapshot, &report); err != nil {
		return err
	}
	if !strings.HasPrefix(report.Schema, "cis490.doctor/") {
		return wire.NewProblem(wire.Malformed, "body: schema: want %q, got %.40q", check.Schema, report.Schema)
	}
	at := s.o.Now()
	first, err := s.snapshots.Put(host, at, report)
	if err != nil {
		return err
	}
	s.contacts.Reported(host, report)
	status := http.StatusOK
	if first {
		status = http.StatusCreated
	}
	return answer(w, status, struct {
		Host       ident.Host `json:"host"`
		ReceivedAt time.Time  `json:"received_at"`
	}{host, at.UTC()})
}
