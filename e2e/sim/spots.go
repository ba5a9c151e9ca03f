package sim

import (
	"path/filepath"
	"syscall"
	"time"

	"cis490/receiver"
	"cis490/receiver/local"
)

// spots are faults of one file: it has a bad sector, or a command with sudo made it root's.
func spots() map[string]Kind {
	at := func(path func(n int64) string, err error, daemon string) func(*World, *Machine, Fault) {
		return func(w *World, m *Machine, f Fault) {
			m.dmu.Lock()
			m.spot, m.spotErr = path(f.N), err
			m.dmu.Unlock()
			w.trace(m.name, "%s: %v", path(f.N), err)
			if f.N&64 != 0 {
				m.Kill(daemon) // which reads it again
			}
		}
	}
	well := func(_ *World, m *Machine, _ Fault) {
		m.dmu.Lock()
		m.spot = ""
		m.dmu.Unlock()
	}
	return map[string]Kind{
		"rx-spot":   {Party: OfReceiver, Often: 3, Most: 4 * time.Hour, start: at(rxSpot, syscall.EIO, "serve"), end: well},
		"rx-root":   {Party: OfReceiver, Often: 2, Most: 4 * time.Hour, start: at(rxSpot, syscall.EACCES, "serve"), end: well},
		"ca-spot":   {Party: OfReceiver, Often: 1, Most: 4 * time.Hour, start: at(caSpot, syscall.EIO, "bootstrap"), end: well},
		"host-spot": {Often: 2, Most: 4 * time.Hour, start: at(hostSpot, syscall.EIO, "ship"), end: well},
		"host-root": {Often: 2, Most: 4 * time.Hour, start: at(hostSpot, syscall.EACCES, "ship"), end: well},
	}
}

func rxSpot(n int64) string {
	return filepath.Join(rxData, pick(n,
		receiver.ContactsDoc, local.RejectionsFile, local.IndexFile, local.AlertsFile, receiver.FleetCheckDoc, receiver.NotifyDoc,
		"releases/rollout.json", "releases/orders.jsonl", "releases/signed", "host-health", "episodes/lab-01", "store_id"))
}

func caSpot(n int64) string {
	return filepath.Join(rxAuthority, pick(n, local.RosterFile, "tokens.jsonl", "issued.jsonl", "server.pem", "trust.pem"))
}

func hostSpot(n int64) string {
	return pick(n,
		hostCerts+"/lab-host.pem", hostCerts+"/ca.crt", hostData+"/outbox", hostData+"/shipped/receipts.jsonl",
		hostOpt+"/state/autoupdate.json", hostOpt+"/autoupdate.json", hostData+"/shipped", hostData+"/shipper.json")
}

func pick(n int64, all ...string) string { return all[n/128%int64(len(all))] }
