package commands_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"cis490/commands"
	"cis490/internal/version"
)

// testCommit is the commit of the scripts' binary.
const testCommit = "0123456789abcdef0123456789abcdef01234567"

var update = flag.Bool("update", false, "write what the commands print into the scripts and golden files")

func TestMain(m *testing.M) {
	// With the race detector a program sleeps a second before it exits, and these tests run
	// hundreds.
	_ = os.Setenv("GORACE", cmp.Or(os.Getenv("GORACE"), "atexit_sleep_ms=10"))
	testscript.Main(m, map[string]func(){
		"cis490": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			context.AfterFunc(ctx, stop)
			code := commands.Main(ctx, os.Args, testEnv())
			stop()
			os.Exit(code)
		},
	})
}

func testEnv() commands.Env {
	return commands.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Etc: os.Getenv("CIS490_TEST_ETC"),
		Build: version.Read("1.2.3-test", testCommit, "false"),
	}
}

// TestScripts runs the command line as a user sees it. It adds to testscript's commands:
// `exits CODE CMD…` runs a command and compares its exit code, and `waitfile FILE` waits
// until a file has content; `conforms COMMAND` validates the last standard output, which is
// JSON of that command, by docs/json.schema.json.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("COMMIT", testCommit)
			e.Setenv("NO_COLOR", "1")
			e.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"waitfile": waitFile,
			"conforms": conforms,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE CMD…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func conforms(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: conforms COMMAND")
	}
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(file), "..", "docs", "json.schema.json")
	s, err := jsonschema.NewCompiler().Compile(path + "#/$defs/" + url.PathEscape(strings.Join(args, " ")))
	ts.Check(err)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(ts.ReadFile("stdout")))
	ts.Check(err)
	ts.Check(s.Validate(document))
}

func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile FILE")
	}
	path := ts.MkAbs(args[0])
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		fi, err := os.Stat(path)
		if err == nil && fi.Size() > 0 {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		select {
		case <-deadline:
			ts.Fatalf("%s did not appear", args[0])
		case <-tick.C:
		}
	}
}
