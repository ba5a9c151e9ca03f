// Package silences stores silences: alerts that are recorded but not notified. serve adds
// silences, fleet-check reads them.
//
// A silenced alert stays in the log of alerts and in `alerts list`. A silence is durable
// when Add returns; a crash before that leaves none. Add refuses a silence without host
// and symptom, so that nobody mutes everything by mistake.
package silences

import (
	"errors"
	"time"

	"cis490/internal/check"
	"cis490/receiver"
	"cis490/receiver/contacts"
)

// Log is the log of silences.
type Log = receiver.Log[receiver.Silence]

// Add stores a silence durably and returns it with its time.
func Add(l Log, s receiver.Silence) (receiver.Silence, error) {
	rows := []receiver.Silence{s}
	err := AddAll(l, rows)
	return rows[0], err
}

// AddAll stores silences durably, all of them or, after an error, none.
func AddAll(l Log, all []receiver.Silence) error {
	for i := range all {
		if all[i].Host == "" || all[i].Symptom == "" {
			return errors.New("add silence: no host or no symptom")
		}
		all[i].V, all[i].Comment, all[i].Clock = 1, check.Sanitize(all[i].Comment, 200), time.Time{}
	}
	return l.Append(all)
}

// Bridge adds silences again that were made while the clock was ahead, or in force while it
// was behind and then jumped forward. past returns when a time of a clock that was ahead
// really was, at most now. Each silence keeps its duration.
func Bridge(l Log, now time.Time, past func(time.Time) time.Time, jump contacts.Jump) error {
	all, err := Read(l)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s, moved := bridged(s, now, past, jump); moved {
			if _, err := Add(l, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func bridged(s receiver.Silence, now time.Time, past func(time.Time) time.Time, jump contacts.Jump) (receiver.Silence, bool) {
	before := jump.At.Add(-jump.By) // the jump, by the clock until then
	switch made := s.When(); {
	case made.After(now):
		if !s.Until.IsZero() {
			s.Until = past(made).Add(s.Until.Sub(made))
		}
	case jump.By > 0 && !s.Clock.IsZero() && made.Before(before) && s.Until.After(before):
		s.Until = s.Until.Add(jump.By)
	default:
		return s, false
	}
	return s, true
}

// Now is Read with what Bridge will change, for a reader that may be earlier than serve.
func Now(l Log, now time.Time, past func(time.Time) time.Time, jump contacts.Jump) (map[receiver.AlertKey]receiver.Silence, error) {
	all, err := Read(l)
	for k, s := range all {
		all[k], _ = bridged(s, now, past, jump)
	}
	return all, err
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
