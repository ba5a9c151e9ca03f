package orchestrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/experiment"
)

// qmpSource samples QEMU's statistics of its machine.
const qmpSource = "qmp"

const (
	// qmpFor bounds one answer. A stalled disk may delay QEMU.
	qmpFor = 5 * time.Second
	// maxQMPEvents bounds the events of one machine.
	maxQMPEvents = 1000
)

// errMachineOver means that the machine has ended and cannot be queried.
var errMachineOver = errors.New("the machine has ended")

// qmpRow is a row of telemetry-qmp.jsonl: sums since the machine's start.
type qmpRow struct {
	head
	Status  string      `json:"status"`
	Running bool        `json:"running"`
	Balloon int64       `json:"balloon_bytes"` // current memory of the machine
	Blocks  []blockStat `json:"blocks"`
}

// blockStat is one disk of a machine.
type blockStat struct {
	Device     string `json:"device"`
	ReadBytes  int64  `json:"read_bytes"`
	WriteBytes int64  `json:"write_bytes"`
	Reads      int64  `json:"reads"`
	Writes     int64  `json:"writes"`
	Flushes    int64  `json:"flushes"`
	ReadNS     int64  `json:"read_ns"`
	WriteNS    int64  `json:"write_ns"`
}

// monitor is the recorder's end of a machine's QMP socket. It listens and QEMU connects, so
// neither must wait for a file to appear.
type monitor struct {
	clock *clock
	out   chan<- report
	ln    *net.UnixListener

	conn    net.Conn
	answers chan qmpMessage
	over    chan struct{} // closed when QEMU has closed its end
	mu      sync.Mutex    // guards conn: close may run before connect returns
	closed  bool
}

// qmpMessage is any message of QEMU.
type qmpMessage struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

func newMonitor(path string, c *clock, out chan<- report) (*monitor, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for QMP: %w", err)
	}
	return &monitor{clock: c, out: out, ln: ln, answers: make(chan qmpMessage), over: make(chan struct{})}, nil
}

// connect waits for QEMU and negotiates the protocol. The sampler calls it once.
func (m *monitor) connect(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = m.ln.Close() })
	defer stop()
	conn, err := m.ln.AcceptUnix()
	_ = m.ln.Close() // one machine, one connection
	m.mu.Lock()
	if err == nil && m.closed {
		err = errors.Join(errMachineOver, conn.Close())
	}
	if err == nil {
		m.conn = conn
	}
	m.mu.Unlock()
	if err != nil {
		close(m.over)
		return fmt.Errorf("QEMU did not connect: %w", err)
	}
	go m.read(conn)
	return m.ask("qmp_capabilities", nil)
}

// read turns QEMU's messages into answers and reports.
func (m *monitor) read(conn net.Conn) {
	defer close(m.over)
	events := 0
	for dec := json.NewDecoder(conn); ; {
		var msg qmpMessage
		if err := dec.Decode(&msg); err != nil {
			return // closed by either side, or invalid
		}
		at := m.clock.stamp()
		switch {
		case msg.Event != "":
			if events++; events <= maxQMPEvents {
				m.event(at, msg)
			}
		case msg.Return != nil || msg.Error != nil:
			select {
			case m.answers <- msg:
			case <-time.After(qmpFor): // the request has timed out
			}
		}
	}
}

// event reports a machine's event. A reset counts as a failure: -no-reboot ends the machine
// there; otherwise it would start over.
func (m *monitor) event(at stamp, msg qmpMessage) {
	m.out <- report{at, qmpSource, strings.ToLower(msg.Event), check.Sanitize(string(msg.Data), maxDetail)}
	var why struct{ Reason string }
	if msg.Event != "SHUTDOWN" || json.Unmarshal(msg.Data, &why) != nil {
		return
	}
	if why.Reason == "guest-reset" || why.Reason == "guest-panic" {
		m.out <- report{at, sourceWorkload, experiment.EventFailed, "the machine stopped by " + why.Reason}
	}
}

func (m *monitor) sample(at stamp) (any, error) {
	row := qmpRow{head: head{at.wall, at.mono, qmpSource}, Blocks: []blockStat{}}
	var status struct {
		Status  string
		Running bool
	}
	var balloon struct{ Actual int64 }
	var blocks []struct {
		Device string `json:"device"`
		QDev   string `json:"qdev"`
		Stats  struct {
			ReadBytes  int64 `json:"rd_bytes"`
			WriteBytes int64 `json:"wr_bytes"`
			Reads      int64 `json:"rd_operations"`
			Writes     int64 `json:"wr_operations"`
			Flushes    int64 `json:"flush_operations"`
			ReadNS     int64 `json:"rd_total_time_ns"`
			WriteNS    int64 `json:"wr_total_time_ns"`
		} `json:"stats"`
	}
	err := m.ask("query-status", &status)
	if err == nil {
		err = m.ask("query-balloon", &balloon)
	}
	if err == nil {
		err = m.ask("query-blockstats", &blocks)
	}
	if err != nil {
		return nil, err
	}
	row.Status, row.Running, row.Balloon = status.Status, status.Running, balloon.Actual
	for _, b := range blocks {
		s := b.Stats
		name := b.Device
		if name == "" {
			name = b.QDev
		}
		row.Blocks = append(row.Blocks, blockStat{name, s.ReadBytes, s.WriteBytes, s.Reads, s.Writes, s.Flushes, s.ReadNS, s.WriteNS})
	}
	return row, nil
}

// ask sends one command and decodes its answer.
func (m *monitor) ask(command string, into any) error {
	timeout := time.NewTimer(qmpFor)
	defer timeout.Stop()
	if err := m.conn.SetWriteDeadline(time.Now().Add(qmpFor)); err != nil {
		return errMachineOver
	}
	if _, err := fmt.Fprintf(m.conn, "{\"execute\":%q}\n", command); err != nil {
		return errMachineOver
	}
	select {
	case a := <-m.answers:
		switch {
		case a.Error != nil:
			return fmt.Errorf("QMP %s: %s", command, check.Sanitize(a.Error.Desc, maxDetail))
		case into == nil:
			return nil
		}
		if err := json.Unmarshal(a.Return, into); err != nil {
			return fmt.Errorf("QMP %s: %w", command, err)
		}
		return nil
	case <-m.over:
		return errMachineOver
	case <-timeout.C:
		return fmt.Errorf("QMP %s: no answer within %s", command, qmpFor)
	}
}

// drain waits, at most for the given time, until QEMU has closed its end, so that its last
// events are read.
func (m *monitor) drain(within time.Duration) {
	if m == nil {
		return
	}
	select {
	case <-m.over:
	case <-time.After(within):
	}
}

// close closes everything; nothing is reported after it returns. A command has a nil
// monitor.
func (m *monitor) close() {
	if m == nil {
		return
	}
	_ = m.ln.Close()
	m.mu.Lock()
	m.closed = true
	conn := m.conn
	m.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
		<-m.over
	}
}
