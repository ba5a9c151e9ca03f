// Command breaker is a proxy before an S3 server that breaks requests, for the fleet lab.
//
//	breaker LISTEN PEM SERVER [FAULT N]
//
// LISTEN and SERVER are addresses, PEM a file with the certificate and key of LISTEN. Each
// N-th request has the fault, one of s3test.Faults.
//
//storage:files it is a program of the lab, with a certificate in a file
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"cis490/receiver/objects/s3test"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		panic(err)
	}
}

func run(args []string) error {
	if len(args) != 3 && len(args) != 5 {
		return fmt.Errorf("want LISTEN PEM SERVER [FAULT N], got %q", args)
	}
	p := s3test.Before(args[2])
	if len(args) == 5 {
		fault := s3test.Fault(args[3])
		n, err := strconv.Atoi(args[4])
		if err != nil || n < 1 || !slices.Contains(s3test.Faults(), fault) {
			return fmt.Errorf("want one of %q and a number, got %q", s3test.Faults(), args[3:])
		}
		p.Break(n, fault)
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	return (&http.Server{Handler: p, ReadHeaderTimeout: time.Minute}).ServeTLS(l, args[1], args[1])
}
