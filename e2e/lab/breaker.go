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
