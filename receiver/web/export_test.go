package web

import "time"

// Follow counts what was appended to the index, as Run does every second.
func Follow(s *Site, now time.Time) error { return s.ingest.follow(now) }
