// Package silences mutes the notifications for alerts that people know about: who is
// muted, and until when. serve adds silences, fleet-check reads them.
//
// A silence hides an alert from notifications, never from the log of alerts or from
// `alerts list`. It is durable when Add returns; a crash before that leaves none. Add
// refuses a silence without a host and a symptom, because nobody means to mute all.
package silences

import (
	"errors"
	"time"

	"cis490/internal/check"
	"cis490/receiver"
)

// Log has the silences.
type Log = receiver.Log[receiver.Silence]

// Add stores a silence durably and returns it with its time.
func Add(l Log, s receiver.Silence) (receiver.Silence, error) {
	if s.Host == "" || s.Symptom == "" {
		return receiver.Silence{}, errors.New("add silence: no host or no symptom")
	}
	s.V, s.Comment, s.Clock = 1, check.Sanitize(s.Comment, 200), time.Time{}
	rows := []receiver.Silence{s}
	err := l.Append(rows)
	return rows[0], err
}

// Bridge adds again the silences that were made while the clock was ahead: each counts
// as made at the time now, and lasts from then on no longer than it was meant to.
func Bridge(l Log, now time.Time) error {
	all, err := Read(l)
	if err != nil {
		return err
	}
	for _, s := range all {
		made := s.When()
		if !made.After(now) {
			continue
		}
		if !s.Until.IsZero() {
			s.Until = now.Add(s.Until.Sub(made))
		}
		if _, err := Add(l, s); err != nil {
			return err
		}
	}
	return nil
}

// Read returns the last silence of each alert.
func Read(l Log) (map[receiver.AlertKey]receiver.Silence, error) {
	all := map[receiver.AlertKey]receiver.Silence{}
	for s, err := range l.Since(time.Time{}) {
		if err != nil {
			return all, err
		}
		all[s.Key()] = s
	}
	return all, nil
}
