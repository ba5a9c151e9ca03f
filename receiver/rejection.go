package receiver

import (
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// Route names what a host requested.
type Route string

// The routes of hosts.
const (
	RouteEpisode   Route = "episode"
	RoutePing      Route = "ping"
	RouteReconcile Route = "reconcile"
	RouteSnapshot  Route = "host-health"
)

// Rejection is a rejected request: the first of its kind in an hour or, with Repeats, the
// number of repeats.
type Rejection struct {
	V        int             `json:"v"`
	At       time.Time       `json:"at"`
	Host     ident.Host      `json:"host,omitempty"` // empty: not in the roster
	Verified bool            `json:"proven"`         // the certificate chain is valid
	Route    Route           `json:"route"`
	Status   int             `json:"status"`
	Kind     wire.Kind       `json:"kind"`
	Detail   string          `json:"detail,omitempty"`
	Episode  ident.EpisodeID `json:"episode,omitempty"`
	Commit   ident.Commit    `json:"commit,omitempty"`
	Count    uint64          `json:"count"`
	First    time.Time       `json:"first"`
	Last     time.Time       `json:"last"`
	Repeats  bool            `json:"repeats,omitempty"`
}

// Permanent reports whether repeating the same request cannot succeed.
func Permanent(status int) bool {
	return status >= 400 && status < 500 && status != 408 && status != 429
}
