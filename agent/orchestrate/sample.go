package orchestrate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
)

// collector reads one source.
type collector interface {
	// sample returns one row for the given moment. The row carries the stamp.
	sample(at stamp) (any, error)
}

// head is what every row begins with.
type head struct {
	Wall   int64  `json:"t_wall_ns"`
	Mono   int64  `json:"t_mono_ns"`
	Source string `json:"source"`
}

// sampler writes the rows of one source at a steady rate.
type sampler struct {
	collector
	source string
	hz     float64
	clock  *clock
	fsys   disk.FS
	dir    string
	// required says that an episode without this source is none.
	required bool
	out      chan<- report
	beat     func() // told at every row
	start    func() // told once, after the first row or when there will be none
	// connect waits for a source that is there only after the command's start; nil
	// for one that is there before.
	connect func(context.Context) error

	rows   int
	missed int
	jitter []int64 // nanoseconds
}

// run samples until the context ends and makes the rows durable. The file is
// there also when there was nothing to write, and events say why.
func (s *sampler) run(ctx context.Context) (err error) {
	defer s.start()
	path := filepath.Join(s.dir, episode.TelemetryFile(s.source))
	f, err := s.fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return fmt.Errorf("record %s: %w", s.source, err)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	s.tell("started", fmt.Sprintf("%g Hz", s.hz))
	var last error
	if s.connect != nil {
		s.start()
		last = s.connect(ctx)
	}
	if last == nil {
		last = s.loop(ctx, json.NewEncoder(w))
	}
	err = errors.Join(w.Flush(), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("record %s: %w", s.source, err)
	}
	switch {
	case last != nil && s.required:
		return fmt.Errorf("record %s: %w", s.source, last)
	case last != nil && s.rows == 0:
		s.tell("unavailable", last.Error())
	case errors.Is(last, errMachineOver): // as every machine is at some time
	case last != nil:
		s.tell("ended_early", last.Error())
	}
	s.tell("finished", fmt.Sprintf("%d rows, %d missed", s.rows, s.missed))
	return nil
}

// loop returns why there was nothing more to read, or nil when the context
// ended. The first row is of before the command, the last of after it, so that
// also the shortest episode shows what it did.
func (s *sampler) loop(ctx context.Context, rows *json.Encoder) error {
	period := int64(float64(time.Second) / s.hz)
	due := s.clock.stamp().mono
	err := s.row(s.clock.stamp(), rows)
	if err == nil {
		s.tell("first_row", "")
	}
	s.start()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for err == nil {
		// The due times are fixed, so that delays do not add up.
		due += period
		if behind := s.clock.stamp().mono - due; behind > 0 {
			skip := behind / period
			s.missed += int(skip)
			due += skip * period
		}
		timer.Reset(time.Until(s.clock.at(due)))
		select {
		case <-ctx.Done():
			return s.row(s.clock.stamp(), rows)
		case <-timer.C:
		}
		at := s.clock.stamp()
		s.jitter = append(s.jitter, at.mono-due)
		err = s.row(at, rows)
	}
	return err
}

func (s *sampler) row(at stamp, rows *json.Encoder) error {
	row, err := s.sample(at)
	if err == nil {
		err = rows.Encode(row)
	}
	if err != nil {
		return err
	}
	s.rows++
	s.beat()
	return nil
}

func (s *sampler) tell(event, detail string) {
	s.out <- report{s.clock.stamp(), s.source, event, detail}
}

// sampling tells how well the rate was kept.
func (s *sampler) sampling() episode.Sampling {
	r := episode.Sampling{Hz: s.hz, Missed: s.missed}
	if n := len(s.jitter); n > 0 {
		slices.Sort(s.jitter)
		at := func(share float64) int64 { return s.jitter[int(share*float64(n-1))] / int64(time.Microsecond) }
		r.JitterP50US, r.JitterP99US, r.JitterMaxUS = at(0.5), at(0.99), at(1)
	}
	return r
}
