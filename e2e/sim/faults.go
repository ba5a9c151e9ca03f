package sim

import "time"

// Fault is something that goes wrong.
type Fault struct {
	Kind string
	At   time.Duration
	For  time.Duration
	Who  string
	N    int64
}

func (w *World) early() {}
func (w *World) play()  { time.Sleep(w.plan.Length) }
