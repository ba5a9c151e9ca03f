//go:build e2e

package e2e

import (
	"testing"
	"time"

	"cis490/e2e/lab"
	"cis490/receiver/objects/s3test"
)

// bootDatabase boots a machine with PostgreSQL, and returns the URLs of serve and of the owner.
func bootDatabase(t *testing.T, l *lab.Lab) (serve, owner string) {
	t.Helper()
	db := l.Boot("database", withServers())
	db.Run(`cd / && printf "listen_addresses = '*'\n" >/etc/postgresql/15/main/conf.d/lab.conf &&
echo 'hostssl cis490 all all scram-sha-256' >>/etc/postgresql/15/main/pg_hba.conf && systemctl restart postgresql &&
sudo -u postgres psql -v ON_ERROR_STOP=1 -c "CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'one'" \
  -c "CREATE ROLE rx LOGIN PASSWORD 'two'" -c "GRANT pg_monitor TO rx" -c "CREATE DATABASE cis490 OWNER owner"`)
	url := func(user string) string { return "postgres://" + user + "@" + db.Addr + "/cis490?sslmode=require\n" }
	return url("rx:two"), url("owner:one")
}

// withServers is for machines with the servers of docs/growing.md. They have one image.
func withServers() lab.Option { return lab.WithPackages("openssh-server", "postgresql", "haproxy") }

// takeAll moves the rows of a receiver to a database, and its tarballs to the object store.
func (o *objectStore) takeAll(t *testing.T, l *lab.Lab, rx machine) {
	t.Helper()
	serve, owner := bootDatabase(t, l)
	o.writeFiles(rx)
	rx.Write("/etc/cis490/postgres", serve, 0o640)
	rx.Write("/root/postgres-owner", owner, 0o600)
	rx.Run("chgrp cis490 /etc/cis490/postgres && cp -p " + receiverConfig + " " + storeConfig + ` && sed -i '/^\[ledger\]/,/^\[/ ` +
		`s|^# backend = .*|backend = "postgres"|; /^\[store\]/,/^\[/ s|^# backend = .*|backend = "s3"|' ` + storeConfig)
	setConfig(rx, storeConfig, map[string]string{
		"endpoint": "https://" + o.Addr + ":7071", "bucket": s3test.Bucket, "ca_file": "/etc/cis490/store.pem",
		"credentials_file": "/etc/cis490/s3", "delete_credentials_file": "/etc/cis490/s3",
	})
	rx.Run("cis490 ledger migrate --config " + storeConfig + " --url-file /root/postgres-owner")
	rx.Run("systemctl stop cis490-fleet-health.timer")
	moveTo(rx, storeConfig)
	rx.Run("systemctl start cis490-fleet-health.timer")
	rx.Eventually(time.Minute, "the database can be used", "cis490 doctor --only ledger.postgres,store.same")
}
