package episode

import (
	"crypto/sha256"
	"hash"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// frames compresses a stream as zstd frames of frameSize bytes each, several at the same
// time. Frames end at fixed offsets of the content, so the result does not depend on the
// number of cores; any zstd reads it as one stream. Memory is bounded by the frames in
// flight.
type frames struct {
	z     *zstd.Encoder
	w     io.Writer
	cur   *frame
	busy  []*frame // in the order of the stream
	spare []*frame
	limit int
	err   error

	// content is the digest of the stream before compression, computed in parallel.
	content hash.Hash
	last    chan struct{} // of the frame before: closed when it was hashed
}

type frame struct {
	in, out []byte
	done    chan struct{}
}

// frameSize is large against what repeats in an episode's rows.
const frameSize = 1 << 20

// mostFrames bounds the memory of a machine with many cores.
const mostFrames = 4

func newFrames() (*frames, error) {
	n := min(runtime.GOMAXPROCS(0), mostFrames)
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(n),
		zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &frames{z: z, limit: n, content: sha256.New()}, nil
}

// reset starts a stream to w and drops an unfinished one.
func (f *frames) reset(w io.Writer) {
	for _, b := range f.busy {
		<-b.done
	}
	f.spare = append(f.spare, f.busy...)
	f.busy, f.w, f.err, f.last = f.busy[:0], w, nil, nil
	f.content.Reset()
	if f.cur != nil {
		f.cur.in = f.cur.in[:0]
	}
}

// Write adds bytes to the stream.
func (f *frames) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && f.err == nil {
		if f.cur == nil {
			f.cur = f.fresh()
		}
		take := min(len(p), frameSize-len(f.cur.in))
		f.cur.in = append(f.cur.in, p[:take]...)
		p = p[take:]
		if len(f.cur.in) == frameSize {
			f.compress()
		}
	}
	return n - len(p), f.err
}

// Close writes the rest of the stream; the underlying writer stays open.
func (f *frames) Close() error {
	if f.cur != nil && len(f.cur.in) > 0 {
		f.compress()
	}
	for len(f.busy) > 0 {
		f.oldest()
	}
	return f.err
}

func (f *frames) fresh() *frame {
	if n := len(f.spare); n > 0 {
		b := f.spare[n-1]
		f.spare = f.spare[:n-1]
		b.in = b.in[:0]
		return b
	}
	return &frame{}
}

func (f *frames) compress() {
	b, before := f.cur, f.last
	f.cur, b.done = nil, make(chan struct{})
	f.last = b.done
	f.busy = append(f.busy, b)
	go func() {
		b.out = f.z.EncodeAll(b.in, b.out[:0])
		if before != nil {
			<-before
		}
		_, _ = f.content.Write(b.in) // a hash.Hash never returns an error
		close(b.done)
	}()
	if len(f.busy) > f.limit {
		f.oldest()
	}
}

// oldest writes the first frame in flight.
func (f *frames) oldest() {
	b := f.busy[0]
	f.busy = append(f.busy[:0], f.busy[1:]...)
	<-b.done
	if f.err == nil {
		_, f.err = f.w.Write(b.out)
	}
	f.spare = append(f.spare, b)
}
