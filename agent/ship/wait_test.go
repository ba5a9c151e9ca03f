package ship_test

import (
	"testing"
	"testing/synctest"
	"time"

	"cis490/agent/spool"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/wire"
)

// waitsOf runs one episode for a day against a receiver that gives one kind of answer, and
// returns the times between its requests.
func waitsOf(t *testing.T, mode string) (waits []time.Duration, m *model) {
	m = newModel(t, 1)
	m.start()
	m.record(1)
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	m.mu.Lock()
	m.mode = mode
	m.mu.Unlock()
	m.record(1)
	time.Sleep(time.Minute) // for the scan
	var last time.Time
	m.mu.Lock()
	asked := m.requests
	m.mu.Unlock()
	for range 24 * 3600 {
		time.Sleep(time.Second)
		m.mu.Lock()
		n := m.requests
		m.mu.Unlock()
		if n != asked {
			if !last.IsZero() {
				waits = append(waits, time.Since(last))
			}
			asked, last = n, time.Now()
		}
	}
	return waits, m
}

// TestWaits: no wait is longer than the table allows, and a failing receiver gets fewer and
// fewer requests, from all episodes together.
func TestWaits(t *testing.T) {
	for mode, want := range map[string]struct {
		longest time.Duration
		most    int  // requests in a day
		ours    bool // it is about this host's credentials
	}{
		"down":                   {45 * time.Second, 24 * 3600 / 15, false},
		"not ours":               {45 * time.Second, 24 * 3600 / 15, false},
		string(wire.Full):        {10 * time.Minute, 24 * 40, false},
		string(wire.Broken):      {10 * time.Minute, 24 * 40, false},
		string(wire.BadBearer):   {time.Hour, 24*14 + 20, true},
		string(wire.CertExpired): {time.Hour, 24*14 + 20, true},
	} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				waits, m := waitsOf(t, mode)
				var longest time.Duration
				for _, w := range waits {
					longest = max(longest, w)
				}
				if longest > want.longest+5*time.Second || len(waits) > want.most || len(waits) == 0 {
					t.Errorf("%d requests in a day, longest wait %s; want at most %d and %s", len(waits), longest, want.most, want.longest)
				}
				t.Logf("%d requests in a day, longest wait %s", len(waits), longest)
				// Doctor blames this host only for its credentials.
				st, err := spool.LoadState(m.disk, modelDir)
				if err != nil || st.Unreached.IsZero() != want.ours || !want.ours && time.Since(st.Unreached) > 11*time.Minute {
					t.Errorf("after a day: out of reach at %s, %v", st.Unreached, err)
				}
				// What ends the wait ends it for all, without a restart.
				m.mu.Lock()
				m.mode = ""
				m.serial++
				m.mu.Unlock()
				time.Sleep(11 * time.Minute)
				synctest.Wait()
				m.mu.Lock()
				stored := m.stored[m.ids[1]] != ""
				m.mu.Unlock()
				if !stored {
					t.Error("not shipped 11 minutes after the receiver was well and the certificate new")
				}
				m.stop()
				m.end()
			})
		})
	}
}

// TestWaits_EndWithAPong: a receiver that accepts the credentials again, as its clock was
// set right, gets what waits with the next ping.
func TestWaits_EndWithAPong(t *testing.T) {
	for n := range 8 {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, 1)
			m.start()
			time.Sleep(time.Minute)
			m.mu.Lock()
			m.mode = string(wire.CertExpired)
			m.mu.Unlock()
			m.record(1)
			time.Sleep(4*time.Hour + time.Duration(n)*7*time.Minute)
			m.mu.Lock()
			m.mode = ""
			m.mu.Unlock()
			time.Sleep(7 * time.Minute)
			synctest.Wait()
			m.mu.Lock()
			if len(m.stored) != 1 {
				t.Errorf("run %d: nothing is stored 7 minutes after the credentials are accepted again", n)
			}
			m.mu.Unlock()
			m.stop()
			m.end()
		})
	}
}

// TestRetryAfter: Retry-After of an episode's answer applies, whatever happens to pings
// meanwhile.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, 1)
		m.start()
		time.Sleep(time.Minute)
		m.mu.Lock()
		m.mode, m.patience, m.pings = string(wire.Busy), 600, true
		m.mu.Unlock()
		m.record(1)
		time.Sleep(2 * time.Minute)
		m.mu.Lock()
		if m.noPuts.IsZero() {
			t.Error("nothing was refused")
		}
		m.mode, m.patience, m.pings = string(wire.NotReady), 1, false
		m.mu.Unlock()
		time.Sleep(5 * time.Minute)
		m.mu.Lock()
		m.mode = ""
		m.mu.Unlock()
		m.record(1)
		time.Sleep(10 * time.Minute) // a PUT that comes too early fails the model
		synctest.Wait()
		m.mu.Lock()
		if len(m.stored) != 2 {
			t.Errorf("%d of 2 are stored when the time has come", len(m.stored))
		}
		m.mu.Unlock()
		m.stop()
		m.end()
	})
}

// TestHang: a packer, disk or request that never returns is ended within three minutes, and
// the queue continues.
func TestHang(t *testing.T) {
	for _, mode := range hangs {
		t.Run(mode, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { hang(t, mode) }) })
	}
}

func hang(t *testing.T, mode string) {
	m := newModel(t, 1)
	m.start()
	m.record(1)
	time.Sleep(2 * time.Minute)
	m.mu.Lock()
	m.mode = "down" // so that the next request is a ping
	m.mu.Unlock()
	m.record(1)
	time.Sleep(2 * time.Minute)
	m.mu.Lock()
	m.mode = mode
	m.store++ // to be reconciled with
	m.mu.Unlock()
	m.record(2)
	for began := time.Now(); !m.stuck.Load() && time.Since(began) < time.Hour; {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	m.mu.Lock()
	if took := time.Since(m.hungAt); m.hungAt.IsZero() || took > 150*time.Second { // a restart takes its time too
		t.Errorf("a hang was noticed after %s", took)
	}
	m.mode = ""
	m.mu.Unlock()
	m.kill(faultdisk.All)
	m.start()
	time.Sleep(3 * time.Minute)
	synctest.Wait()
	m.mu.Lock()
	if len(m.stored) != 4 {
		t.Errorf("%d of 4 are stored after the restart", len(m.stored))
	}
	m.mu.Unlock()
	m.stop()
	m.end()
}
