package commands

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
)

// candidate is a word that could come next on a command line.
type candidate struct{ word, about string }

// completeCommand prints what could come next on a command line, for the shells' scripts:
// one word a line, then a tab and what it is about. Its arguments are the words after the
// program's name; the last one, perhaps empty, is being typed.
func (a *app) completeCommand() *cli.Command {
	return &cli.Command{
		Name: "__complete", Hidden: true, SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 0 {
				return nil
			}
			typed := words[len(words)-1]
			for _, x := range a.candidates(words[:len(words)-1], typed) {
				if strings.HasPrefix(x.word, typed) {
					a.printf("%s\t%s\n", x.word, x.about)
				}
			}
			return nil
		},
	}
}

// candidates returns what could come after some words; typed begins it.
func (a *app) candidates(before []string, typed string) []candidate {
	known, flags, usage := a.commands(), logFlags(), ""
	var values []string // words that are neither commands nor flags
	for i := 0; i < len(before); i++ {
		word := before[i]
		name, _, whole := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch at := find(known, word); {
		case strings.HasPrefix(word, "-"):
			f := flagOf(flags, name)
			if _, isBool := f.(*cli.BoolFlag); f == nil || isBool || whole {
				continue
			}
			if i+1 == len(before) {
				return a.valuesOf(placeholder(f))
			}
			i++ // its value
		case at != nil:
			known, flags, usage = at.Subcommands, at.Flags, at.ArgsUsage
		default:
			values = append(values, word)
		}
	}
	switch {
	case strings.HasPrefix(typed, "-"):
		return flagCandidates(flags)
	case len(known) > 0:
		return commandCandidates(known)
	}
	words := strings.Fields(usage)
	if len(words) == 0 {
		return nil
	}
	word := words[min(len(values), len(words)-1)]
	if len(values) >= len(words) && !strings.HasSuffix(strings.Trim(word, "[]"), "…") {
		return nil
	}
	var all []candidate
	for kind := range strings.SplitSeq(strings.Trim(word, "[]…"), "|") {
		for _, x := range a.valuesOf(strings.Trim(kind, "…")) {
			if !slices.Contains(values, x.word) {
				all = append(all, x)
			}
		}
	}
	return all
}

func commandCandidates(known []*cli.Command) []candidate {
	var all []candidate
	for _, c := range known {
		if !c.Hidden {
			all = append(all, candidate{c.Name, c.Usage})
		}
	}
	return all
}

func flagCandidates(flags []cli.Flag) []candidate {
	all := []candidate{{"--help", "print the help of this command"}}
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if v, hides := f.(cli.VisibleFlag); ok && (!hides || v.IsVisible()) {
			all = append(all, candidate{"--" + f.Names()[0], strings.ReplaceAll(d.GetUsage(), "`", "")})
		}
	}
	return all
}

func flagOf(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// placeholder returns the word in a flag's usage that stands for its value.
func placeholder(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	_, word, _ := strings.Cut(d.GetUsage(), "`")
	word, _, _ = strings.Cut(word, "`")
	return word
}

// valuesOf returns the values that a placeholder of the help can have. If it returns none,
// the shell completes file names.
func (a *app) valuesOf(kind string) []candidate {
	switch kind {
	case "HOST":
		return plainCandidates(a.hostNames())
	case "SYMPTOM":
		var all []candidate
		for _, s := range fleet.Symptoms() {
			all = append(all, candidate{s, fleet.Meaning(s)})
		}
		return all
	case "CHECK":
		var all []candidate
		for _, role := range []string{roleLabHost, roleReceiver} {
			for _, k := range registryOf(role) {
				if !slices.ContainsFunc(all, func(x candidate) bool { return x.word == k.ID }) {
					all = append(all, candidate{k.ID, k.Title})
				}
			}
		}
		return all
	case "VERSION":
		return plainCandidates(a.versions())
	case "COMMAND":
		return commandCandidates(a.commands())
	case "ROLE":
		return plainCandidates([]string{roleLabHost, roleReceiver})
	case "STATE":
		return plainCandidates([]string{"waiting", "held", "quarantined", "shipped"})
	case "LEVEL":
		return plainCandidates([]string{"debug", "info", "warn", "error"})
	case "FORMAT":
		return plainCandidates([]string{"text", "json"})
	case "TARGET":
		conf, _, _ := config.LoadReceiver(a.configPath(roleReceiver))
		return plainCandidates(targetNames(conf))
	}
	return nil
}

func plainCandidates(words []string) []candidate {
	var all []candidate
	for _, word := range words {
		all = append(all, candidate{word, ""})
	}
	return all
}

// hostNames returns the hosts of this receiver's roster, as far as this user can read it,
// or else this lab host's own name.
func (a *app) hostNames() []string {
	var names []string
	if conf, _, err := config.LoadReceiver(a.configPath(roleReceiver)); err == nil {
		known, _ := local.Roster(disk.OS{}, conf.Authority.Dir).All()
		for _, h := range known {
			names = append(names, string(h.Name))
		}
	}
	if conf, _, err := config.LoadLabHost(a.configPath(roleLabHost)); err == nil && len(names) == 0 {
		names = append(names, conf.Host)
	}
	return names
}

// versions returns the published versions.
func (a *app) versions() []string {
	conf, _, err := config.LoadReceiver(a.configPath(roleReceiver))
	if err != nil {
		return nil
	}
	var all []string
	list, _ := progressOf(local.ReleasesDir(conf.DataDir))
	for _, p := range list {
		all = append(all, p.Version)
	}
	return all
}
