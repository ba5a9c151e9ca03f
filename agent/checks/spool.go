package checks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"cis490/internal/check"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

const shipLog = here + "sudo journalctl -u cis490-shipper -n 20 --no-pager; sudo systemctl restart cis490-shipper"

func (h *host) spool() []check.Check {
	return []check.Check{
		{
			ID: "outbox.oldest", Title: "No episode waits too long", Severity: check.Hard, Fix: shipLog,
			Doc: "No episode has waited for longer than [doctor] outbox_oldest while this machine was on and the receiver was reachable. " +
				"Episodes held by the gate do not count: they wait for another build or gate.",
			Run: h.onQueue(h.oldest),
		},
		{
			ID: "outbox.count", Title: "Outbox has room", Severity: check.Soft, Fix: shipLog,
			Doc: "Waiting and held episodes take less than four fifths of [orchestrate] outbox_limit. At the limit recording pauses.",
			Run: h.onQueue(h.outbox),
		},
		{
			ID: "outbox.held", Title: "No episode is held by the gate", Severity: check.Soft,
			Fix: "on the receiver: sudo cis490 host show HOST   # if its data is wanted, add the commit to [gate] extra_commits in " +
				"/etc/cis490/receiver.toml; otherwise nothing: held episodes stay on the lab host",
			Doc: "Episodes whose recording commit the gate rejects are kept, and sent when the gate's policy changes.",
			Run: h.onQueue(func(q wire.Queue) check.Result {
				if q.Held > 0 {
					return check.Warnf("%d episodes are held", q.Held)
				}
				return check.Passf("none held")
			}),
		},
		{
			ID: "quarantine.count", Title: "Quarantine is empty", Severity: check.Soft,
			Fix: here + "sudo cis490 episode list --state quarantined   # shows the reasons; to retry one: sudo cis490 episode retry EPISODE",
			Doc: "Episodes that the receiver rejected for their content (malformed, too large, another digest stored) " +
				"are kept in quarantine with the reason.",
			Run: h.needsConfig(h.quarantined),
		},
		{
			ID: "episodes.stuck", Title: "Folders of shipped episodes can be removed", Severity: check.Soft,
			Fix: here + "sudo -u cis490-rec chmod -R u+rwX,g+rwX /var/lib/cis490/data/episodes   " +
				"# the shipper then removes them; for those left in shipped/ID.removing: sudo rm -rf --one-file-system",
			Doc: "The shipper was able to move the recorder's folders of shipped and quarantined episodes out of episodes/, and to " +
				"remove them. A folder that it cannot access takes disk space, is not shipped again, and does not block other episodes.",
			Run: h.needsConfig(h.stuck),
		},
		{
			ID: "episodes.recent", Title: "An episode was accepted recently", Severity: check.Soft,
			Fix: here + "sudo journalctl -u cis490-orchestrator -u cis490-shipper -n 40 --no-pager",
			Doc: "The receiver accepted an episode within [doctor] last_accepted. " +
				"Checked only after the machine was awake for that long.",
			Run: h.onQueue(h.recent),
		},
	}
}

// onQueue is a check of the queue's figures.
func (h *host) onQueue(judge func(wire.Queue) check.Result) func(context.Context) check.Result {
	return h.needsConfig(func(context.Context) check.Result {
		if h.queue == nil {
			return check.Skipf("no spool")
		}
		q, err := h.queue()
		if err != nil {
			return machine.Unreadable(err)
		}
		return judge(q)
	})
}

func (h *host) oldest(q wire.Queue) check.Result {
	if q.Waiting == 0 || q.Oldest.IsZero() {
		return check.Passf("no episode waits")
	}
	now := h.Now()
	detail := fmt.Sprintf("%d waiting, the oldest for %s", q.Waiting, machine.HumanDuration(max(now.Sub(q.Oldest), 0)))
	since := q.Oldest
	if h.Unreached != nil {
		at, err := h.Unreached()
		if err != nil {
			return machine.Unreadable(err)
		}
		if at.After(since) && !at.After(now) { // a future time comes from a wrong clock
			since = at
			detail += ", the receiver was last unreachable " + machine.HumanDuration(now.Sub(at)) + " ago"
		}
	}
	if min(now.Sub(since), h.Awake()) > h.Config.Doctor.OutboxOldest.D() {
		return check.Failf("%s", detail)
	}
	return check.Passf("%s", detail)
}

func (h *host) outbox(q wire.Queue) check.Result {
	limit := int64(h.Config.Orchestrate.OutboxLimit)
	detail := fmt.Sprintf("%d episodes, %s of %s", q.Waiting+q.Held, humanize.IBytes(uint64(max(q.Bytes, 0))), humanize.IBytes(uint64(limit)))
	if limit > 0 && q.Bytes > limit/5*4 {
		return check.Warnf("%s", detail)
	}
	return check.Passf("%s", detail)
}

func (h *host) recent(q wire.Queue) check.Result {
	most := h.Config.Doctor.LastAccepted.D()
	var age time.Duration
	if machine.Future(q.LastShipped, h.Now()) {
		q.LastShipped = time.Time{} // a clock was ahead: the time is unknown
	}
	if !q.LastShipped.IsZero() {
		age = h.Now().Sub(q.LastShipped)
		if age <= most {
			return check.Passf("at %s", plain.Time(q.LastShipped))
		}
	}
	if at := h.enrolled(); q.LastShipped.IsZero() && !machine.Future(at, h.Now()) && h.Now().Sub(at) < most {
		return check.Skipf("none yet: enrolled at %s", plain.Time(at))
	}
	if awake := h.Awake(); awake < most {
		return check.Skipf("this machine has been awake for only %s", machine.HumanDuration(awake))
	}
	if q.LastShipped.IsZero() {
		return check.Warnf("no episode was accepted yet")
	}
	return check.Warnf("the last at %s, %s ago", plain.Time(q.LastShipped), machine.HumanDuration(age))
}

func (h *host) stuck(context.Context) check.Result {
	if h.Stuck == nil {
		return check.Skipf("no spool")
	}
	ids, err := h.Stuck()
	if err != nil {
		return machine.Unreadable(err)
	}
	if len(ids) > 0 {
		return check.Warnf("%d folders cannot be moved or removed, the first of episode %s", len(ids), ids[0])
	}
	return check.Passf("none")
}

func (h *host) quarantined(context.Context) check.Result {
	if h.Quarantine == nil {
		return check.Skipf("no spool")
	}
	by, err := h.Quarantine()
	if err != nil {
		return machine.Unreadable(err)
	}
	if len(by) == 0 {
		return check.Passf("empty")
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf("%d %s", by[reason], reason))
	}
	return check.Warnf("%s", strings.Join(parts, ", "))
}
