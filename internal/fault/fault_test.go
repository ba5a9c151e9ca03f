package fault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"cis490/internal/fault"
)

func TestFixAndCode_TravelThroughWrapping(t *testing.T) {
	err := fmt.Errorf("read config: %w", fault.Exit(fault.Fix(fs.ErrPermission, "sudo !!"), fault.NoPerm))
	if got := fault.FixOf(err); got != "sudo !!" {
		t.Errorf("FixOf = %q", got)
	}
	if got := fault.CodeOf(err); got != fault.NoPerm {
		t.Errorf("CodeOf = %d", got)
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Error("the cause is lost")
	}
	if got := fault.FixOf(fault.Fix(err, "outer")); got != "outer" {
		t.Errorf("outermost fix: %q", got)
	}
}

func TestNilStaysNil(t *testing.T) {
	if fault.Fix(nil, "x") != nil || fault.Exit(nil, 1) != nil || fault.CodeOf(nil) != 0 || fault.FixOf(nil) != "" {
		t.Error("nil did not stay nil")
	}
	if fault.CodeOf(errors.New("x")) != fault.Failed {
		t.Error("a plain error is not code 1")
	}
}
