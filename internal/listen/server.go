package listen

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// What any client may have of a server.
const (
	headerTimeout = 10 * time.Second // from the first byte on; also for the TLS handshake
	keepAlive     = 90 * time.Second // a connection that waits for a request
	maxHeader     = 8 << 10          // bytes; net/http allows 4 KiB more
)

// Server returns an HTTP server with the bounds of this package, for connections of
// a Listener or of a Unix socket behind a proxy. It speaks HTTP/1.1 alone: HTTP/2
// would let a client that proved nothing hold hundreds of streams, windows and
// tables on one connection (docs/decisions/0008-http-1-only.md).
func Server(h http.Handler, log *slog.Logger) *http.Server {
	only := new(http.Protocols)
	only.SetHTTP1(true)
	return &http.Server{
		Handler:           bounded(h),
		Protocols:         only,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // unknown clients cause these
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(c))
		},
		ConnState: connState,
		// Else net/http answers "OPTIONS *" by itself, without these bounds.
		DisableGeneralOptionsHandler: true,
		// No ReadTimeout and no WriteTimeout: they would end a long transfer.
	}
}

type connKey struct{}

// connState follows what connections do, for http.Server.
func connState(c net.Conn, state http.ConnState) {
	in := connOf(c)
	if in == nil {
		return
	}
	switch state {
	case http.StateActive:
		in.begun.Add(1)
		in.idle.Store(false)
	case http.StateIdle:
		in.idle.Store(true)
	case http.StateClosed:
		// What net/http refuses by itself no handler sees.
		if in.begun.Load() <= in.served.Load() {
			return
		}
		if omitted, ok := in.l.unread.Next(); ok {
			in.l.o.Log.Info("request that cannot be read", "count", omitted+1, "from", in.source)
		}
	}
}
