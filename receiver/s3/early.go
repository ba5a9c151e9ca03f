package s3

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// An upload is fast if its first earlyAfter bytes arrive within earlyWithin. A slow one
// would keep a connection to the store waiting, which stores close.
const (
	earlyAfter  = 1 << 20
	earlyWithin = 250 * time.Millisecond
)

var errNotSent = errors.New("the body was not sent early")

// early sends the body of a fast upload to the object store while it arrives. It withholds
// the last byte until finish is called: without it the store has no object. After an error
// the whole body has to be sent. The nil value sends nothing.
type early struct {
	ctx   context.Context //nolint:containedctx // of the request
	stop  context.CancelFunc
	send  func(ctx context.Context, body io.Reader) error // sends one request
	sent  chan struct{}                                   // closed when it ends; nil: not begun
	err   error                                           // its result
	now   func() time.Time
	began time.Time
	file  io.ReaderAt
	size  int64

	mu      sync.Mutex
	changed *sync.Cond
	have    int64 // bytes in the file
	may     int64 // bytes that may be sent
	at      int64 // bytes that were sent
}

func newEarly(
	ctx context.Context, now func() time.Time, file io.ReaderAt, size int64, send func(ctx context.Context, body io.Reader) error,
) *early {
	e := &early{send: send, now: now, began: now(), file: file, size: size, may: size - 1}
	e.ctx, e.stop = context.WithCancel(ctx)
	e.changed = sync.NewCond(&e.mu)
	context.AfterFunc(e.ctx, func() { e.change(func() {}) })
	return e
}

func (e *early) change(what func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	what()
	e.changed.Broadcast()
}

// grew records that the file has n bytes more.
func (e *early) grew(n int) {
	if e == nil {
		return
	}
	before := e.have
	e.change(func() { e.have += int64(n) })
	if before < earlyAfter && e.have >= earlyAfter && e.now().Sub(e.began) <= earlyWithin {
		e.sent = make(chan struct{})
		go func() {
			e.err = e.send(e.ctx, e)
			close(e.sent)
		}()
	}
}

// finish sends the last byte and returns the result of the request.
func (e *early) finish() error {
	if e == nil || e.sent == nil {
		return errNotSent
	}
	e.change(func() { e.may = e.size })
	<-e.sent
	return e.err
}

// abandon cancels the request if it was not finished.
func (e *early) abandon() {
	if e == nil {
		return
	}
	e.stop()
	if e.sent != nil {
		<-e.sent
	}
}

// Read implements io.Reader for the request. It waits for bytes.
func (e *early) Read(p []byte) (n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.ctx.Err() == nil && e.at >= min(e.have, e.may) && e.at < e.size {
		e.changed.Wait()
	}
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	if e.at == e.size {
		return 0, io.EOF
	}
	n, err = e.file.ReadAt(p[:min(int64(len(p)), min(e.have, e.may)-e.at)], e.at)
	e.at += int64(n)
	return n, err
}
