package export

import (
	"slices"
	"strings"

	"cis490/internal/episode"
)

// episodesTable has one row for each episode.
func episodesTable() *table {
	t := &table{name: "episodes", about: "one row for each episode: what was recorded, where, and how it ended"}
	add := func(k kind, unit, name, about string) {
		t.columns = append(t.columns,
			column{name: name, unit: unit, about: about, kind: k, repeats: k == text && name != "episode" && name != "sha256"})
	}
	add(text, "", "episode", "id of the episode")
	add(text, "", "host", "the host that recorded")
	add(text, "", "profile", "the recorded profile")
	add(text, "", "class", "the profile's class")
	add(text, "", "verdict", "accepted or failed")
	add(text, "", "reason", "why it failed")
	add(integer, "ns", "start_ns", "start of the recording by the host's clock, since the Unix epoch")
	add(integer, "ns", "end_ns", "end of the recording by the host's clock, since the Unix epoch")
	add(text, "", "phases", "the phases in their order, with commas between them")
	add(text, "", "commit", "commit of the build that recorded")
	add(text, "", "version", "version of the build that recorded")
	add(text, "", "experiment_sha256", "SHA-256 of the experiment file, which is in experiments/ if episodes contain it")
	add(text, "", "sha256", "SHA-256 of the tarball")
	add(integer, "bytes", "size", "size of the tarball")
	add(integer, "", "clock_step_ms", "largest step of the wall clock during the recording")
	add(boolean, "", "clock_synchronized", "whether something kept the host's clock right")
	add(integer, "", "slots", "episodes recorded at the same time, at most")
	add(number, "share", "load_busy", "share of the host's CPU time that was used")
	add(text, "", "cpu_model", "name of the first processor")
	add(integer, "", "cores", "logical processors")
	add(integer, "bytes", "ram_bytes", "memory of the host")
	add(text, "", "kernel", "release of the kernel")
	add(text, "", "distribution", "the distribution")
	add(text, "", "architecture", "the processor's architecture")
	add(text, "", "virtualization", "none, or what the host runs in")
	add(boolean, "", "kvm", "whether the recorder could use KVM")
	return t
}

// cells returns the episode's row of episodesTable.
func (e *reading) cellsOf() []cell {
	m := e.meta
	var phases []string
	for _, l := range e.labels {
		if !slices.Contains(phases, l.Phase) || l.Phase != phases[len(phases)-1] {
			phases = append(phases, l.Phase)
		}
	}
	cells := []cell{
		str(string(m.Episode)), str(string(m.Host)), str(m.Profile), str(m.Class), str(string(m.Verdict)), str(m.Reason),
		num(m.Start.UnixNano()), num(m.End.UnixNano()), str(strings.Join(phases, ",")), str(string(m.Code.Commit)), str(m.Code.Version),
		str(string(m.Experiment)), str(string(e.row.Digest)), num(e.row.Size), num(m.ClockStepMS), synchronized(m),
		num(int64(m.Load.Slots)), real(m.Load.Busy),
	}
	if m.Machine == nil {
		return append(cells, cell{}, num(int64(m.Load.Cores)), cell{}, cell{}, cell{}, cell{}, cell{}, cell{})
	}
	h := m.Machine
	return append(cells, str(h.CPU), num(int64(h.Cores)), num(h.RAM), str(h.Kernel), str(h.Distribution), str(h.Architecture),
		str(h.Virtualization), truth(h.KVM))
}

func synchronized(m *episode.Meta) cell {
	if m.Clock == nil {
		return cell{}
	}
	return truth(m.Clock.Synchronized)
}
