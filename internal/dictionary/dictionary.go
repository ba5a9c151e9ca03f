// Package dictionary describes every key of an episode's files: its meaning, type, unit and
// origin.
//
// The description is the source of the JSON Schemas in docs/data, of docs/data.md, and of
// the columns' comments in an export. Tests compare it with what the recorder writes.
package dictionary

import (
	"strings"

	"cis490/internal/episode"
)

// Version is the version of the dictionary. Within all versions, a key keeps its name, type,
// unit and meaning, and is never removed; a later version may add keys and files, so readers
// must ignore keys that they do not know.
const Version = 2

// Type is the JSON type of a value.
type Type string

// The types. A Map has names of its own choosing as keys.
const (
	String  Type = "string"
	Time    Type = "time" // a string, RFC 3339
	Integer Type = "integer"
	Number  Type = "number"
	Boolean Type = "boolean"
	Object  Type = "object"
	List    Type = "list"
	Map     Type = "map"
)

// Kind distinguishes current values from sums.
type Kind string

// Kinds of numbers. A Counter never decreases within an episode; its growth per second is a
// rate.
const (
	Gauge   Kind = "gauge"
	Counter Kind = "counter"
)

// Key is a key of a file.
type Key struct {
	// Name is the path from the row's top: a dot before a member, [] for the elements of a
	// list and {} for the values of a map, as in procs[].io.rchar.
	Name     string
	Type     Type
	Unit     string // such as ns or bytes; "": none
	Kind     Kind
	Optional bool
	Since    int // the dictionary's version that added it
	Text     string
	Origin   string // manual page or kernel document; "": the recorder itself
}

// File describes a file of an episode.
type File struct {
	Name string // within the episode
	Text string
	Rows bool // JSON Lines; otherwise one JSON document
	Keys []Key
}

// Source returns the telemetry source whose rows the file has, or "".
func (f File) Source() string {
	name, ok := strings.CutPrefix(f.Name, episode.TelemetryPrefix)
	if !ok {
		return ""
	}
	return strings.TrimSuffix(name, ".jsonl")
}

// Files returns all files that the dictionary describes.
func Files() []File {
	return []File{
		{episode.MetaFile, "what was recorded, where, by which build, and how it ended", false, metaKeys()},
		{episode.LabelsFile, "the phases: each row begins one, which lasts until the next row, or to the end of the episode", true, labelKeys()},
		{episode.EventsFile, "what the command, the collectors and the recorder reported, in the order of time", true, eventKeys()},
		{
			episode.TelemetryFile("proc"),
			"the command's process tree at one moment. The first row precedes the command, the last one follows it",
			true, procKeys(),
		},
		{
			episode.TelemetryFile("pressure"),
			"stall time of the whole machine (pressure stall information): how much other load there was",
			true, pressureKeys(),
		},
		{episode.TelemetryFile("qmp"), "QEMU's statistics of a virtual machine; only profiles with a machine have this file", true, qmpKeys()},
	}
}
