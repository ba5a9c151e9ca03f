// Package config reads /etc/cis490/lab-host.toml and receiver.toml.
//
// Every default is in this package, in one block per role; the example files in
// assets/config are the manual, and a test keeps them equal. Reading has no side effects:
// doctor checks whether a path exists or a port is free. Validate reports all errors at
// once. Unknown keys are returned separately: daemons log a warning (a rolled-back binary
// must still start), install and `config check` reject them.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/pelletier/go-toml/v2"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// The config files' default paths, without a flag or CIS490_CONFIG.
const (
	LabHostPath  = "/etc/cis490/lab-host.toml"
	ReceiverPath = "/etc/cis490/receiver.toml"
)

// NotifyURLsPath is the default of [notify] urls_file. A missing file there is not an error.
const NotifyURLsPath = "/etc/cis490/notify"

// Error is an error in a config file.
type Error struct {
	File      string
	Line, Col int // 0 if unknown
	Key       string
	Why       string
}

// Error returns file:line:col, the key and the reason.
func (e *Error) Error() string {
	at := e.File
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Col)
	}
	if e.Key == "" {
		return fmt.Sprintf("%s: %s", at, e.Why)
	}
	return fmt.Sprintf("%s: %s: %s", at, e.Key, e.Why)
}

// Duration is a time.Duration written as "90s", "5m" or "24h".
type Duration time.Duration

// UnmarshalText parses a duration and rejects negative ones.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errors.New("want a duration such as \"90s\", \"5m\" or \"24h\"")
	}
	*d = Duration(v)
	return nil
}

// MarshalText formats the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Size is a number of bytes written as "64KiB", "2GiB" or "1GB".
type Size int64

// UnmarshalText parses a size.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := humanize.ParseBytes(string(b))
	if err != nil || v > 1<<62 {
		return errors.New("want a size such as \"64KiB\" or \"2GiB\"")
	}
	*s = Size(v)
	return nil
}

// MarshalText writes the size in IEC units if that is exact, else in bytes.
func (s Size) MarshalText() ([]byte, error) {
	text := humanize.IBytes(uint64(s))
	if v, err := humanize.ParseBytes(text); err != nil || v != uint64(s) {
		text = fmt.Sprintf("%d B", int64(s))
	}
	return []byte(text), nil
}

// LoadLabHost reads a lab host's config over the defaults. It returns unknown keys
// separately; every other problem is an error with exit code 78.
func LoadLabHost(path string) (LabHost, []*Error, error) {
	return load(disk.OS{}, path, DefaultLabHost(), LabHost.Validate)
}

// LoadReceiver is LoadLabHost for a receiver's config.
func LoadReceiver(path string) (Receiver, []*Error, error) {
	return LoadReceiverOn(disk.OS{}, path)
}

// LoadReceiverOn is LoadReceiver for a file on fsys.
func LoadReceiverOn(fsys disk.FS, path string) (Receiver, []*Error, error) {
	c, unknown, err := load(fsys, path, DefaultReceiver(), Receiver.Validate)
	return c.derived(), unknown, err
}

// ParseLabHost is LoadLabHost for the given content; name is for messages.
func ParseLabHost(name string, content []byte) (LabHost, []*Error, error) {
	return Parse(name, content, DefaultLabHost(), LabHost.Validate)
}

// ParseReceiver is LoadReceiver for the given content; name is for messages.
func ParseReceiver(name string, content []byte) (Receiver, []*Error, error) {
	c, unknown, err := Parse(name, content, DefaultReceiver(), Receiver.Validate)
	return c.derived(), unknown, err
}

func load[C any](fsys disk.FS, path string, c C, validate func(C) []error) (C, []*Error, error) {
	b, err := disk.ReadFile(fsys, path, disk.Small)
	if err != nil {
		return c, nil, unread(path, fmt.Errorf("read config: %w", err))
	}
	return Parse(path, b, c, validate)
}

// unread adds the fix for a file that is missing, not readable or not a file.
func unread(path string, err error) error {
	fix, code := "ls -ld "+path+"   # must be a file", fault.Config
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fix = "sudo cis490 install lab-host   # or receiver: writes it if absent"
	case errors.Is(err, fs.ErrPermission):
		fix, code = "run it again with sudo; of a service: ls -ld "+path+"   # its user must be able to read it", fault.NoPerm
	}
	return fault.Exit(fault.Fix(err, fix), code)
}

// Parse reads a TOML file over the defaults in c. validate returns *Error with dotted keys,
// indexed in arrays of tables ("profile[1].phase[0].budget"); Parse adds the positions.
// Unknown keys are returned separately, for the caller to log or reject.
func Parse[C any](name string, content []byte, c C, validate func(C) []error) (C, []*Error, error) {
	defaults := c
	content, err := disk.Text(content)
	if err != nil {
		fix := "iconv -f UTF-16 -t UTF-8 " + name + "   # save its output as the file"
		return c, nil, fault.Exit(fault.Fix(&Error{File: name, Why: err.Error()}, fix), fault.Config)
	}
	dec := toml.NewDecoder(bytes.NewReader(content)).DisallowUnknownFields()
	err = dec.Decode(&c)
	var unknown []*Error
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		for _, e := range strict.Errors {
			row, col := e.Position()
			unknown = append(unknown, &Error{name, row, col, dotted(e.Key()), "unknown key" + didYouMean(dotted(e.Key()), defaults)})
		}
		c = defaults
		err = toml.Unmarshal(content, &c)
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, col := e.Position()
		err = &Error{name, row, col, dotted(e.Key()), e.Error()}
	}
	if err == nil {
		var bad []error
		for _, e := range append(bareNumbers(content, c), validate(c)...) {
			if v, ok := errors.AsType[*Error](e); ok {
				v.File = name
				v.Line, v.Col = position(content, v.Key)
			}
			bad = append(bad, e)
		}
		err = errors.Join(bad...)
	}
	return c, unknown, fault.Exit(fault.Fix(err, "edit "+name+", then: cis490 config check"), fault.Config)
}
