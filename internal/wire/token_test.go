package wire_test

import (
	"strings"
	"testing"

	"cis490/internal/wire"
)

func TestParseToken_OutOfAFileOfWindows(t *testing.T) {
	want := wire.Token{
		Host: "lab-01", Receiver: "https://r:1", Authority: "https://r:2", Secret: "s",
		Pin: "0000000000000000000000000000000000000000000000000000000000000000",
	}
	if got, err := wire.ParseToken("\ufeff" + want.String() + "\r\n"); err != nil || got != want {
		t.Error(got, err)
	}
	if _, err := wire.ParseToken(strings.TrimPrefix(want.String(), "c")); err == nil {
		t.Error("a token without its first letter")
	}
}
