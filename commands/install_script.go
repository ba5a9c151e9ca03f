package commands

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"cis490/internal/config"
	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// scriptFresh is how long serve answers with the same install script, as anyone may ask.
const scriptFresh = 30 * time.Second

// scriptCache returns the receiver's install script, made at most once per scriptFresh, even
// if it cannot be made.
func scriptCache(conf config.Receiver, path string, now func() time.Time) func() (string, error) {
	var mu sync.Mutex
	var at time.Time
	var text string
	var err error
	return func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if !at.IsZero() && now().Sub(at).Abs() < scriptFresh {
			return text, err
		}
		var offered []manifest.Artifact
		at, text = now(), ""
		if offered, err = published(conf, path); err == nil {
			text = installScript(conf, offered)
		}
		return text, err
	}
}

// installScript returns the script that makes a machine a lab host of this receiver. It
// runs from a pipe, where a cut download must not run in part, and asks nothing.
func installScript(conf config.Receiver, offered []manifest.Artifact) string {
	url := strings.TrimSuffix(conf.PublicURL, "/")
	return fmt.Sprintf(`#!/bin/sh
# Makes this machine a cis490 lab host of %[1]s
#   curl -fsSk %[1]s%[2]s | sudo sh
#   sudo sh install.sh --token FILE    # with the join token in FILE, which can be -
# Without a token it shows a code to approve on the receiver. --name HOST names the host.
# It downloads the program for this machine and checks its sha256, which is below.
main() {
  token='' name=''
  while [ $# -gt 0 ]; do
    case $1 in
      --token|--name) [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 64; } ;;
      *) echo "unknown argument $1: want --token FILE or --name HOST" >&2; exit 64 ;;
    esac
    case $1 in --token) token=$2 ;; --name) name=$2 ;; esac
    shift 2
  done
  [ "$(id -u)" = 0 ] || { echo "needs root: pipe it to sudo sh" >&2; exit 77; }
  if [ "$token" = - ]; then secret=$(cat)
  elif [ -n "$token" ]; then secret=$(cat "$token") || exit 66
  fi
%[3]s%[4]s  [ -x cis490 ] || { echo "the program could not be downloaded from %[1]s" >&2; exit 69; }
  if [ -n "$token" ]; then
    printf '%%s\n' "$secret" | ./cis490 install lab-host --join - ${name:+--name "$name"}
  else
    ./cis490 install lab-host --receiver %[1]s ${name:+--name "$name"} </dev/null
  fi
}
main "$@"
`, url, wire.InstallScriptPath, scratch, download(conf, offered))
}
