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
	// sample returns one row with the given stamp.
	sample(at stamp) (any, error)
}

// head is the start of every row.
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
	// required means that the episode fails without this source.
	required bool
	out      chan<- report
	beat     func() // called at every row
	start    func() // called once, after the first row or on failure
	// connect waits for a source that exists only after the command's start. nil means that
	// it exists before.
	connect func(context.Context) error

	rows   int
	missed int
	jitter []int64 // nanoseconds
}

// run samples until the context ends and makes the rows durable. Without rows the file is
// empty, and events report the reason.
func (s *sampler) run(ctx context.Context) (err error) {
	defer s.start()
	path := filepath.Join(s.dir, episode.TelemetryFile(s.source))
	f, err := s.fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return fmt.Errorf("record %s: %w", s.source, err)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	s.report("started", fmt.Sprintf("%g Hz", s.hz))
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
		s.report("unavailable", last.Error())
	case errors.Is(last, errMachineOver): // every machine ends
	case last != nil:
		s.report("ended_early", last.Error())
	}
	s.report("finished", fmt.Sprintf("%d rows, %d missed", s.rows, s.missed))
	return nil
}

// loop samples until the context ends, or returns why it cannot. The first row precedes the
// command and the last follows it, so that even the shortest episode shows its effect.
func (s *sampler) loop(ctx context.Context, rows *json.Encoder) error {
	period := int64(float64(time.Second) / s.hz)
	due := s.clock.stamp().mono
	err := s.row(s.clock.stamp(), rows)
	if err == nil {
		s.report("first_row", "")
	}
	s.start()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for err == nil {
		// Due times are fixed, so that delays do not accumulate.
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

func (s *sampler) report(event, detail string) {
	s.out <- report{s.clock.stamp(), s.source, event, detail}
}

// sampling returns the accuracy of the sampling rate.
func (s *sampler) sampling() episode.Sampling {
	r := episode.Sampling{Hz: s.hz, Missed: s.missed}
	if n := len(s.jitter); n > 0 {
		slices.Sort(s.jitter)
		at := func(share float64) int64 { return s.jitter[int(share*float64(n-1))] / int64(time.Microsecond) }
		r.JitterP50US, r.JitterP99US, r.JitterMaxUS = at(0.5), at(0.99), at(1)
	}
	return r
}
