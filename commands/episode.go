package commands

import "github.com/urfave/cli/v2"

func (a *app) episodeCommand() *cli.Command {
	return &cli.Command{
		Name:  "episode",
		Usage: "list, inspect and retry episodes",
		Subcommands: []*cli.Command{
			a.episodeListCommand(),
			a.episodeShowCommand(),
			a.episodeVerifyCommand(),
			a.episodePlotCommand(),
			a.episodeRetryCommand(),
			a.episodeCatalogueCommand(),
		},
	}
}
