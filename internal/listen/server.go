package listen

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The limits of any client.
const (
	headerTimeout = 10 * time.Second // from the first byte; also for the TLS handshake
	keepAlive     = 90 * time.Second // for an idle connection
	maxHeader     = 8 << 10          // bytes; net/http allows 4 KiB more
)

// Server returns an HTTP server with this package's limits, for a Listener or a Unix socket
// behind a proxy. It speaks only HTTP/1.1, because HTTP/2 lets an unverified client hold
// hundreds of streams, windows and tables on one connection
// (docs/decisions/0008-http-1-only.md).
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
		// Otherwise net/http answers "OPTIONS *" itself, without these limits.
		DisableGeneralOptionsHandler: true,
		// No ReadTimeout and WriteTimeout, because they would end long transfers.
	}
}

type connKey struct{}

// connState tracks connection states for http.Server.
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
		// No handler sees a request that net/http itself rejects.
		if in.begun.Load() <= in.served.Load() {
			return
		}
		if omitted, ok := in.l.unread.Next(); ok {
			in.l.o.Log.Info("request that cannot be read", "count", omitted+1, "from", in.source)
		}
	}
}
