// Command state prints what a receiver stores, for the fleet lab:
//
//	state index.jsonl|rejections.jsonl|DOCUMENT
//
// Rows are printed as a data folder has them, also if they are in a database.
//
//storage:files it is a program of the lab, which reads the config as commands do
package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/receiver/local"
	"cis490/receiver/pg"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		panic(err)
	}
}

func run(name string) error {
	conf, _, err := config.LoadReceiver("/etc/cis490/receiver.toml")
	if err != nil {
		return err
	}
	base := local.Open(local.Options{FS: disk.OS{}, Dir: conf.DataDir})
	b := pg.Open(pg.Options{Base: base, FS: disk.OS{}, Dir: conf.DataDir, URLFile: conf.Ledger.URLFile})
	switch name {
	case "index.jsonl":
		return lines(b.Index.Since(time.Time{}))
	case "rejections.jsonl":
		return lines(b.Rejections.Since(time.Time{}))
	}
	content, err := b.Docs.Load(name, 64<<20)
	fmt.Printf("%s\n", content)
	return err
}

func lines[T any](rows iter.Seq2[T, error]) error {
	out := json.NewEncoder(os.Stdout)
	for row, err := range rows {
		if err != nil {
			return err
		}
		if err := out.Encode(row); err != nil {
			return err
		}
	}
	return nil
}
