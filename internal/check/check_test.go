package check_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cis490/internal/check"
)

func TestRun_EveryEndIsARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan check.Result)
		checks := []check.Check{
			{ID: "a.pass", Severity: check.Hard, Fix: "x", Run: func(context.Context) check.Result { return check.Passf("fine") }},
			{ID: "b.fail", Severity: check.Hard, Fix: "mend it", Run: func(context.Context) check.Result { return check.Failf("bad\x1b[31m\nrow") }},
			{ID: "c.soft", Severity: check.Soft, Fix: "mend it", Run: func(context.Context) check.Result { return check.Failf("bad") }},
			{ID: "d.panic", Severity: check.Hard, Fix: "tell us", Run: func(context.Context) check.Result { panic("oh") }},
			{ID: "e.hang", Severity: check.Hard, Fix: "wait", Run: func(context.Context) check.Result { return <-hang }},
			{ID: "f.skip", Severity: check.Soft, Run: func(context.Context) check.Result { return check.Skipf("no systemd") }},
		}
		want := []check.Row{
			{ID: "a.pass", Status: check.Pass, Detail: "fine", Hard: true},
			{ID: "b.fail", Status: check.Fail, Detail: "bad [31m row", Fix: "mend it", Hard: true},
			{ID: "c.soft", Status: check.Warn, Detail: "bad", Fix: "mend it"},
			{ID: "d.panic", Status: check.Fail, Detail: "check panicked: oh", Fix: "tell us", Hard: true},
			{ID: "e.hang", Status: check.Fail, Detail: "no result within 10s", Fix: "wait", Hard: true},
			{ID: "f.skip", Status: check.Skip, Detail: "no systemd"},
		}
		got := check.Run(t.Context(), checks)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(check.Row{}, "TookMS")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(check.Summary{Pass: 1, Warn: 1, Fail: 3, Skip: 1}, check.Summarize(got)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"b.fail", "d.panic", "e.hang"}, check.Failing(got)); diff != "" {
			t.Error(diff)
		}
		close(hang)
	})
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\tc\x1b]0;x\a": "a b c ]0;x…", "héllo": "héllo", "\xff\xfe": "  ", "12345678901": "1234567890…", "\u202eabc": " abc",
	} {
		if got := check.Sanitize(in, 10); got != want {
			t.Errorf("Plain(%q) = %q, want %q", in, got, want)
		}
	}
}
