package commands

import (
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/fault"
)

// looseArgs returns the arguments of a command that accepts flags before and after them.
// The cli library stops at the first argument.
func looseArgs(c *cli.Context) ([]string, error) {
	var args []string
	given := c.Args().Slice()
	for i := 0; i < len(given); i++ {
		word := given[i]
		if word == "--" {
			return append(args, given[i+1:]...), nil
		}
		if len(word) < 2 || word[0] != '-' {
			args = append(args, word)
			continue
		}
		if word == "--help" || word == "-h" {
			return nil, helped(c)
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		f := flagOf(c.Command.Flags, name)
		_, isBool := f.(*cli.BoolFlag)
		switch {
		case f == nil:
			return nil, unknownFlag(c, name)
		case isBool && !hasValue:
			value = "true"
		case !hasValue && i+1 == len(given):
			return nil, usagef(c, "flag needs an argument: -%s", name)
		case !hasValue:
			i++
			value = given[i]
		}
		for _, each := range f.Names() { // the library does not set a flag's other names
			if err := c.Set(each, value); err != nil {
				return nil, usagef(c, "invalid value %q for flag -%s: %w", value, name, err)
			}
		}
	}
	return args, nil
}

// helped prints the command's help and returns the error that ends the command without a
// failure: who asks for help after the arguments does not want it to run.
func helped(c *cli.Context) error {
	if err := cli.ShowSubcommandHelp(c); err != nil {
		return err
	}
	return fault.Exit(errQuiet, 0)
}
