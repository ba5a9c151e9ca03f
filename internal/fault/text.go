package fault

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// Text returns an error's text for people: without the names of system calls, and without
// methods, URLs and sockets of requests within this machine.
func Text(err error) string {
	text := err.Error()
	for e := range causes(err) {
		if plain := plainCause(e); plain != "" {
			text = strings.ReplaceAll(text, e.Error(), plain)
		}
	}
	return text
}

// plainCause returns the plain form of one error of the standard library, or "".
func plainCause(err error) string {
	switch e := err.(type) { //nolint:errorlint // causes unwraps
	case *fs.PathError:
		return "cannot " + verb(e.Op) + " " + e.Path + ": " + because(e.Err)
	case *os.LinkError:
		return "cannot " + verb(e.Op) + " " + e.New + ": " + because(e.Err)
	case *url.Error:
		return e.Err.Error()
	case *net.OpError:
		if _, here := e.Addr.(*net.UnixAddr); here {
			return because(e.Err)
		}
		if e.Op == "dial" && e.Addr != nil {
			return "cannot connect to " + e.Addr.String() + ": " + because(e.Err)
		}
	}
	return ""
}

// causes yields an error and everything that it wraps, the outermost first.
func causes(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) { walk(err, yield) }
}

func walk(err error, yield func(error) bool) bool {
	if err == nil {
		return true
	}
	if !yield(err) {
		return false
	}
	switch e := err.(type) { //nolint:errorlint // unwraps one level
	case interface{ Unwrap() error }:
		return walk(e.Unwrap(), yield)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if !walk(one, yield) {
				return false
			}
		}
	}
	return true
}

// verb returns what a system call does, as a word.
func verb(op string) string {
	switch op {
	case "lstat", "stat", "fstatat", "newfstatat":
		return "find"
	case "openat", "openat2":
		return "open"
	case "readdirent", "fdopendir":
		return "list"
	case "mkdir", "mkdirat":
		return "create"
	case "unlinkat", "unlink":
		return "remove"
	}
	return op
}

func because(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "no permission"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there"
	}
	return err.Error()
}
