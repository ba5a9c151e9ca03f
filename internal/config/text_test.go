package config_test

import (
	"strings"
	"testing"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// TestParse_AsWindowsSavesIt: a byte order mark and CR LF change nothing, not even the
// place of an error, and for UTF-16 the fix names the converter.
func TestParse_AsWindowsSavesIt(t *testing.T) {
	good := "public_url = \"https://r:1\"\r\n[gate]\r\nextra_commits = [\r\n]\r\n"
	if _, unknown, err := config.ParseReceiver("x", []byte("\ufeff"+good)); err != nil || len(unknown) > 0 {
		t.Error(err, unknown)
	}
	bad := "\ufeffpublic_url = \"https://r:1\"\r\nlisten = \"x\"\r\n"
	if _, _, err := config.ParseReceiver("x", []byte(bad)); err == nil || !strings.Contains(err.Error(), "x:2:1: listen: ") {
		t.Error(err)
	}
	_, _, err := config.ParseReceiver("x.toml", []byte("\xff\xfep\x00u\x00"))
	if err == nil || !strings.Contains(err.Error(), disk.ErrUTF16.Error()) ||
		!strings.HasPrefix(fault.FixOf(err), "iconv -f UTF-16 -t UTF-8 x.toml") {
		t.Error(err, fault.FixOf(err))
	}
}
