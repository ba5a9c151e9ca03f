package commands

import "github.com/urfave/cli/v2"

func (a *app) episodeCommand() *cli.Command {
	return &cli.Command{
		Name:  "episode",
		Usage: "look at episodes",
		Subcommands: []*cli.Command{
			a.episodeListCommand(),
			a.episodeShowCommand(),
			a.episodeVerifyCommand(),
			a.episodePlotCommand(),
			a.episodeRetryCommand(),
		},
	}
}
