package version_test

import (
	"testing"

	"cis490/internal/version"
)

func TestRead_StampWins(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	v := version.Read("1.2.3", commit, "true")
	if v.Version != "1.2.3+dirty" || v.Commit != commit || !v.Dirty {
		t.Errorf("%+v", v)
	}
	if v := version.Read("1.2.3+dirty", commit, "true"); v.Version != "1.2.3+dirty" {
		t.Errorf("%+v", v)
	}
	if v := version.Read("", "not a commit", ""); v.Commit != "" || v.Version != "dev" {
		t.Errorf("%+v", v)
	}
	if v := version.Read("", commit, ""); v.Version != "dev-0123456789ab" {
		t.Errorf("%+v", v)
	}
}
