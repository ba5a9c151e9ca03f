package peercred

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"syscall"
	"time"

	"cis490/internal/fault"
	"cis490/internal/wire"
)

// Service is a service of this machine, as its clients see it.
type Service struct {
	Name    string // for messages
	Socket  string
	Start   string // the command that starts it
	Timeout time.Duration
}

// Call sends a request, with in as JSON unless it is nil, and decodes the answer into out
// unless that is nil. Its errors have a fix and an exit code.
func (s Service) Call(ctx context.Context, method, path string, in, out any) (err error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://local"+path, &body)
	if err != nil {
		return err
	}
	res, err := Client(s.Socket, s.Timeout).Do(r)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.Exit(fault.Fix(fmt.Errorf("only root may send commands to %s", s.Name), "run it again with sudo"), fault.NoPerm)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fault.Exit(fault.Fix(fmt.Errorf("%s does not run on this machine", s.Name), s.Start), fault.Unavailable)
	case err != nil:
		return fmt.Errorf("%s did not answer: %w", s.Name, err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode >= http.StatusMultipleChoices {
		p, err := wire.ReadLocalProblem(res)
		if err != nil {
			return err
		}
		code := fault.Failed
		if p.Kind == wire.Unauthorized {
			code = fault.NoPerm
		}
		return fault.Exit(fault.Fix(p, p.Fix), code)
	}
	if out == nil {
		return nil
	}
	b, err := io.ReadAll(res.Body)
	if err == nil {
		err = wire.Decode(b, out)
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", s.Name, err)
	}
	return nil
}
