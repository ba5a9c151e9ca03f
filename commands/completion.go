package commands

import "github.com/urfave/cli/v2"

// shells returns the completion scripts by shell. Each asks the program itself for
// completions, so that a script never becomes outdated.
func shells() map[string]string {
	return map[string]string{
		"bash": `_cis490() {
	local cur=${COMP_WORDS[COMP_CWORD]}
	mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)
	compopt +o nospace 2>/dev/null
}
complete -o bashdefault -o default -F _cis490 cis490
`,
		"zsh": `#compdef cis490
_cis490() {
	local -a found
	found=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null | sed -e 's/:/\\\\:/g' -e 's/\t$//' -e 's/\t/:/')}")
	if [[ -n ${found[1]} ]]; then
		_describe cis490 found
	else
		_files
	fi
}
compdef _cis490 cis490
`,
		"fish": `function __cis490
	set -l words (commandline -opc) (commandline -ct)
	$words[1] __complete $words[2..-1] 2>/dev/null
end
complete -c cis490 -f -a '(__cis490)'
complete -c cis490 -n 'test -z (__cis490 | string collect)' -F
`,
	}
}

func (a *app) completionCommand() *cli.Command {
	hint := map[string]string{
		"bash": "cis490 completion bash | sudo install -Dm644 /dev/stdin /etc/bash_completion.d/cis490",
		"zsh":  "cis490 completion zsh | sudo install -Dm644 /dev/stdin /usr/local/share/zsh/site-functions/_cis490",
		"fish": "cis490 completion fish | sudo install -Dm644 /dev/stdin /etc/fish/completions/cis490.fish",
	}
	var leaves []*cli.Command
	for _, shell := range []string{"bash", "zsh", "fish"} {
		leaves = append(leaves, &cli.Command{
			Name: shell, Usage: "print the completion script for " + shell, ArgsUsage: noArgs,
			Description: "Prints a script for " + shell +
				" that completes commands, flags, and the names of hosts, symptoms,\nchecks and states.\n\nExample:\n   " + hint[shell],
			Action: func(*cli.Context) error {
				a.printf("%s", shells()[shell])
				return nil
			},
		})
	}
	return &cli.Command{Name: "completion", Usage: "print a shell's completion script", Subcommands: leaves}
}
