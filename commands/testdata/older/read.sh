# Opens a receiver's files with the program $CIS490: serves, lists, checks, reconciles,
# archives, backs up and restores them. The working directory has the files that write.sh
# leaves.
set -eu
cis490=${CIS490:-cis490}
host="--config lab-host.toml" rx="--config receiver.toml"

daemons=

# has TEXT COMMAND…: the command succeeds, and its output contains TEXT.
has() {
	text=$1 && shift
	out=$("$@" 2>&1) || { echo "$*: exit code $?: $out" >&2; exit 1; }
	case $out in *"$text"*) ;; *) echo "$*: no '$text' in: $out" >&2; exit 1 ;; esac
}
start() {
	rm -f *.addr
	$cis490 bootstrap $rx --addr-file bootstrap.addr >>bootstrap.log 2>&1 &
	daemons=$!
	$cis490 serve $rx --addr-file serve.addr >>serve.log 2>&1 &
	daemons="$daemons $!"
	until test -s bootstrap.addr && test -s serve.addr; do sleep 0.1; done
	cat >lab-host.toml <<-end
		host = "lab-01"
		data_dir = "$PWD/lab-01/data"
		certs_dir = "$PWD/lab-01/certs"
		[receiver]
		url = "https://$(cat serve.addr)"
		[authority]
		url = "https://$(cat bootstrap.addr)"
	end
	until $cis490 cert-fetch $host; do sleep 0.2; done # its certificate may have expired since
	until $cis490 ship $host --ping; do sleep 0.2; done
}
stop() {
	kill $daemons
	wait
}
trap 'kill -9 $daemons 2>/dev/null; cat bootstrap.log serve.log >&2' EXIT
trap 'exit 1' INT TERM

cat >receiver.toml <<end
public_url = "https://127.0.0.1:8443"
listen = "127.0.0.1:0"
data_dir = "$PWD/receiver"
operator_file = "$PWD/operator"
[authority]
listen = "127.0.0.1:0"
dir = "$PWD/authority"
socket = "$PWD/admin.sock"
[limits]
disk_reserve = "1 MiB"
end
# A backup can only be restored to the paths that its config names.
mkdir unpacked && tar -xzf backup.tar.gz -C unpacked && cp receiver.toml unpacked/config/
(cd unpacked && find * -type f ! -name backup.json | tar -czf ../backup.tar.gz backup.json -T -)

start
for name in lab-01 lab-02; do has $name $cis490 host list $rx; done
has '"silenced": true' $cis490 alerts list $rx --json
has '"lab-02"' $cis490 alerts list $rx --all --since 876000h --json
has v1.2.3 $cis490 release list $rx
has 'lab-01' $cis490 status $rx
has 'the receiver has all 3 ' $cis490 reconcile $host
$cis490 fleet-check $rx
for check in ledger.index ledger.alerts files.owner rows.files ca.key releases.signed fleetcheck.last; do
	has "ok    $check" $cis490 doctor --role receiver $rx --deep --only $check
done
if $cis490 export --help >/dev/null 2>&1; then
	until $cis490 episode list $rx --json | grep -q '"lab-02"'; do sleep 0.1; done
	has ' episodes verified, ' sh -c "$cis490 episode verify --all $rx || true"
	has '"episodes": 5' $cis490 export $rx --out exported --json
	has 'its tarball is not in the store' cat exported/left-out.jsonl
fi
find receiver/episodes -name '*.tar.zst' -exec touch -d '2 days ago' {} +
has 'moved 5 episodes' $cis490 archive $rx --before 2100-01-01 --to arch
has 'the receiver has all 3 ' $cis490 reconcile $host

# Its own backup, and that of the program that wrote the files.
$cis490 backup $rx --to own.tar.gz
for backup in own.tar.gz backup.tar.gz; do
	stop
	rm -rf receiver authority
	$cis490 restore $rx --from $backup
	start
	for name in lab-01 lab-02; do has $name $cis490 host list $rx; done
	has v1.2.3 $cis490 release list $rx
	$cis490 reconcile $host --repair
	$cis490 ship $host --once
	has 'the receiver has all 3 ' $cis490 reconcile $host
done
stop
trap - EXIT
