package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/silences"
)

// silence adds a row as serve does.
func (s *scene) silence(at time.Time, x receiver.Silence) {
	s.t.Helper()
	x.Host, x.Symptom = "lab-01", Silent
	l := local.Open(local.Options{FS: disk.OS{}, Dir: s.dir, Now: func() time.Time { return at }}).Silences
	if _, err := silences.Add(l, x); err != nil {
		s.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// TestRun_SilenceEndsWithTheAlert: rows continue without notifications, and the next
// alert of the kind notifies again; the opening row of the next hour keeps the silence.
func TestRun_SilenceEndsWithTheAlert(t *testing.T) {
	s := newScene(t)
	s.write(local.IndexFile, row("lab-01", ago(31*time.Minute)))
	s.must(now)
	s.silence(now.Add(time.Minute), receiver.Silence{})
	next := s.must(now.Add(time.Hour))
	if len(s.sent) != 1 || symptoms(next.Rows) != "lab-01 silent firing" || !next.Open[0].Silenced {
		t.Errorf("silenced: sent %q, rows %+v", s.sent, next.Rows)
	}
	if hold, err := ActiveSilences(onDisk(s.dir), now.Add(time.Hour)); err != nil || len(hold) != 1 {
		t.Errorf("%v %v", hold, err)
	}
	shipped := row("lab-01", ago(31*time.Minute)) + row("lab-01", now.Add(61*time.Minute))
	s.write(local.IndexFile, shipped)
	over := s.must(now.Add(62 * time.Minute))
	if len(s.sent) != 1 || symptoms(over.Rows) != "lab-01 silent resolved" {
		t.Errorf("its end: sent %q, rows %+v", s.sent, over.Rows)
	}
	if again := s.must(now.Add(3 * time.Hour)); len(s.sent) != 2 || again.Open[0].Silenced {
		t.Errorf("the next alert: sent %q, %+v", s.sent, again.Open)
	}
}

// TestRun_SilenceOfWhatCameBack: an alert that came back within the hour has no row
// of its own yet; a silence covers it all the same, until it resolves.
func TestRun_SilenceOfWhatCameBack(t *testing.T) {
	s := newScene(t)
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	shipped := row("lab-01", ago(31*time.Minute))
	s.write(local.IndexFile, shipped)
	s.must(now)
	shipped += row("lab-01", at(4))
	s.write(local.IndexFile, shipped)
	s.must(at(5)) // resolved
	back := s.must(at(40))
	if len(back.Rows) != 0 || len(back.Open) != 1 || len(s.sent) != 2 {
		t.Fatalf("back within the hour: %+v, sent %q", back, s.sent)
	}
	if open, err := Began(onDisk(s.dir)); err != nil || !open[Key{Host: "lab-01", Symptom: Silent}].Equal(at(40)) {
		t.Errorf("open since %v, %v", open, err)
	}
	s.silence(at(41), receiver.Silence{})
	if hold, err := ActiveSilences(onDisk(s.dir), at(42)); err != nil || len(hold) != 1 {
		t.Errorf("holds %v, %v", hold, err)
	}
	for _, minutes := range []int{45, 60, 65} { // the row of the next hour comes in between
		if r := s.must(at(minutes)); len(r.Open) != 1 || !r.Open[0].Silenced {
			t.Errorf("at %d min: %+v", minutes, r.Open)
		}
	}
	s.write(local.IndexFile, shipped+row("lab-01", at(69)))
	if r := s.must(at(70)); symptoms(r.Rows) != "lab-01 silent resolved" || len(s.sent) != 2 {
		t.Errorf("its end: %+v, sent %q", r.Rows, s.sent)
	}
	if r := s.must(at(130)); len(r.Open) != 1 || r.Open[0].Silenced {
		t.Errorf("the next one: %+v", r.Open)
	}
}

// TestRun_SilenceWithAnEnd holds until then, over alerts that come and go.
func TestRun_SilenceWithAnEnd(t *testing.T) {
	s := newScene(t)
	s.silence(now.Add(-time.Hour), receiver.Silence{Until: now.Add(90 * time.Minute), Comment: "a\x1b[31m\nmove"})
	s.write(local.IndexFile, row("lab-01", ago(31*time.Minute)))
	s.must(now)
	s.must(now.Add(time.Hour))
	if len(s.sent) != 0 {
		t.Errorf("sent %q", s.sent)
	}
	s.must(now.Add(2 * time.Hour))
	if len(s.sent) != 1 || !strings.Contains(s.sent[0], "state=firing") {
		t.Errorf("after its end: %q", s.sent)
	}
	s.silence(now.Add(121*time.Minute), receiver.Silence{Until: now.Add(9 * time.Hour)})
	s.silence(now.Add(122*time.Minute), receiver.Silence{End: true})
	s.must(now.Add(3 * time.Hour))
	if len(s.sent) != 2 {
		t.Errorf("ended by hand: %q", s.sent)
	}
	all, err := silences.Read(onDisk(s.dir).Silences)
	if err != nil || len(all) != 1 || !all[receiver.AlertKey{Host: "lab-01", Symptom: Silent}].End {
		t.Errorf("%v %v", all, err)
	}
}

// TestRun_SilencesUnread: what was muted in the last run stays muted while the silences cannot
// be read; another alert is not.
func TestRun_SilencesUnread(t *testing.T) {
	s := newScene(t)
	shipped := row("lab-01", ago(31*time.Minute))
	s.write(local.IndexFile, shipped)
	s.must(now)
	s.silence(now.Add(time.Minute), receiver.Silence{})
	s.must(now.Add(time.Hour))
	path := filepath.Join(s.dir, local.SilencesFile)
	if err := errors.Join(os.Rename(path, path+".away"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	s.write(local.IndexFile, shipped+row("lab-02", now.Add(90*time.Minute)))
	sick := s.must(now.Add(3 * time.Hour))
	if got := strings.Join(s.sent[1:], " "); strings.Contains(got, "lab-01") || !strings.Contains(got, "lab-02") {
		t.Errorf("sent %q, open %+v", s.sent, sick.Open)
	}
	if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
		t.Fatal(err)
	}
	if well := s.must(now.Add(4 * time.Hour)); !well.Open[0].Silenced {
		t.Errorf("read again: %+v", well.Open)
	}
}
