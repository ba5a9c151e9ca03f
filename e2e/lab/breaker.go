package lab

// Breaker puts the program breaker on the host, and returns its path. It is a proxy that
// breaks requests to an S3 server.
func (h *Host) Breaker() string {
	h.lab.tb.Helper()
	path, err := build("breaker", "./receiver/objects/s3test/breaker", "-s -w")
	if err != nil {
		h.lab.tb.Fatalf("lab: build the breaker: %v", err)
	}
	const there = "/usr/local/lib/cis490-lab-breaker"
	h.Push(path, there)
	return there
}

// StatePath is a program that prints what a receiver stores: index.jsonl, rejections.jsonl, or
// a document.
const StatePath = "/usr/local/bin/lab-state"

// State puts the program of StatePath on a receiver that has its rows in a database.
func (h *Host) State() {
	h.lab.tb.Helper()
	path, err := build("state", "./receiver/pg/pgtest/state", "-s -w")
	if err != nil {
		h.lab.tb.Fatalf("lab: build the program state: %v", err)
	}
	h.Push(path, StatePath)
}
