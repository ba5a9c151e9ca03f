# Writes the files of a receiver and of lab host lab-01 with the program $CIS490, into the
# working directory: episodes of two hosts, one of them archived, alerts, a silence, a
# rejection, a health report, a token, a release, a backup, and a receiver that was killed.
# It needs curl.
set -eu
cis490=${CIS490:-cis490}
rx="--config receiver.toml"

$cis490 demo --once --keep --hosts 2 >demo.log 2>&1
demo=$(sed -n 's/^.*kept: \([^ ]*\) .*/\1/p' demo.log)
mv "$demo"/authority "$demo"/receiver "$demo"/lab-01 "$demo"/operator . && rm -r "$demo"
cat >receiver.toml <<end
public_url = "https://127.0.0.1:8443"
listen = "127.0.0.1:0"
data_dir = "$PWD/receiver"
operator_file = "$PWD/operator"
[authority]
listen = "127.0.0.1:0"
dir = "$PWD/authority"
socket = "$PWD/admin.sock"
[fleet]
silent_after = "1s"
[limits]
disk_reserve = "1 MiB"
end
$cis490 bootstrap $rx --addr-file bootstrap.addr >bootstrap.log 2>&1 &
daemons=$!
$cis490 serve $rx --addr-file serve.addr >serve.log 2>&1 &
daemons="$daemons $!"
trap 'kill -9 $daemons 2>/dev/null; cat bootstrap.log serve.log >&2' EXIT
trap 'exit 1' INT TERM
until test -s bootstrap.addr && test -s serve.addr; do sleep 0.1; done
url=https://$(cat serve.addr)
sed -i "s,^public_url.*,public_url = \"$url\"," receiver.toml # for alerts silence
cat >lab-host.toml <<end
host = "lab-01"
data_dir = "$PWD/lab-01/data"
certs_dir = "$PWD/lab-01/certs"
[receiver]
url = "$url"
[authority]
url = "https://$(cat bootstrap.addr)"
end
until $cis490 ship --config lab-host.toml --ping; do sleep 0.2; done
$cis490 health-check --config lab-host.toml || true # the demo is not an installed host
$cis490 token create lab-03 $rx --json >/dev/null
episode=$(ls lab-01/data/shipped/*.tar.zst | head -1) id=01ARZ3NDEKTSV4RRFFQ69G5FA1
status=$(curl -sS -o /dev/null -w '%{http_code}' --cacert lab-01/certs/ca.crt --cert lab-01/certs/lab-host.pem -T "$episode" \
	-H "Authorization: Bearer $(cat lab-01/certs/bearer)" -H 'Content-Type: application/zstd' -H 'X-Schema-Version: 1' \
	-H "X-Content-SHA256: $(sha256sum "$episode" | cut -c1-64)" -H 'X-Lab-Host: lab-01' -H "X-Episode-Id: $id" \
	-H "X-Cis490-Code-Commit: $(printf %040d 7)" "$url/v1/episodes/lab-01/$id.tar.zst")
test "$status" = 412
mkdir release arch
echo 'not a real binary' >release/cis490-linux-amd64
$cis490 release sign --keys keys --seq 7 --version v1.2.3 --commit "$(printf %040d 8)" release
$cis490 release publish $rx release
touch -d '10 days ago' receiver/episodes/lab-01/"$(ls receiver/episodes/lab-01 | head -1)"
$cis490 archive $rx --before "$(date -u -d '2 days ago' +%F)" --to arch
until grep -q lab-02 receiver/alerts.jsonl 2>/dev/null; do sleep 0.5; $cis490 fleet-check $rx; done
$cis490 alerts silence $rx lab-02 silent --until 2100-01-01T00:00:00Z --comment 'at the repair shop'
until grep -q '"lab-01"' receiver/contacts.json; do sleep 0.2; done
$cis490 backup $rx --to backup.tar.gz
kill -9 $daemons
trap - EXIT
rm -rf ./*.log ./*.addr admin.sock keys release lab-host.toml
find . -type s -delete
