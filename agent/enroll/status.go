package enroll

import (
	"errors"
	"time"

	"cis490/internal/ident"
	"cis490/internal/pki"
)

// Status describes a host's identity.
type Status struct {
	Host      ident.Host `json:"host"`
	Authority string     `json:"authority"`
	Enrolled  bool       `json:"enrolled"`
	Valid     bool       `json:"valid"` // by this machine's clock
	Due       bool       `json:"due"`   // the next run enrolls or renews
	Token     bool       `json:"join_token"`
	Bearer    bool       `json:"bearer"`
	Serial    string     `json:"serial,omitempty"`
	NotAfter  time.Time  `json:"not_after,omitzero"`
	RenewAt   time.Time  `json:"renew_at,omitzero"`
}

// Status reads certs_dir and changes nothing.
func (e *Enroller) Status() (Status, error) {
	s, err := e.load()
	if err = errors.Join(err, s.damaged); err != nil {
		return Status{}, err
	}
	st := Status{
		Host: e.o.Host, Authority: e.o.Authority, Token: s.token != nil, Bearer: s.bearer,
		Enrolled: s.leaf != nil && s.bearer, Due: s.token != nil || s.next || s.leaf == nil || e.due(s),
	}
	if s.leaf != nil {
		now := e.o.Now()
		st.Valid = !now.Before(s.leaf.NotBefore) && !now.After(s.leaf.NotAfter)
		st.Serial, st.NotAfter, st.RenewAt = pki.Serial(s.leaf), s.leaf.NotAfter, pki.RenewAt(s.leaf, string(e.o.Host))
	}
	return st, nil
}
