package experiment_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"cis490/internal/experiment"
	"cis490/internal/fault"
)

const good = `name = "x"
schema = 1
[[profile]]
name = "a"
weight = 1
command = ["/bin/true"]
[[profile.phase]]
name = "clean"
event = "start"
budget = "5s"
[[profile]]
name = "b"
weight = 3
command = ["/bin/true"]
stop = "budget"
grace = "1s"
[profile.collectors]
proc_hz = 20
[[profile.phase]]
name = "clean"
event = "start"
budget = "5s"
[[profile.phase]]
name = "busy"
event = "busy"
budget = "1m"
`

func TestParse_FillsDefaults(t *testing.T) {
	e, err := experiment.Parse("x", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	a, b := e.Profiles[0], e.Profiles[1]
	if a.Stop != experiment.StopExit || a.Grace.D() != experiment.DefaultGrace || a.Collectors.ProcHz != 10 || a.Collectors.PressureHz != 2 {
		t.Errorf("defaults of a: %+v", a)
	}
	if b.Stop != experiment.StopBudget || b.Grace.D() != time.Second || b.Collectors.ProcHz != 20 || b.Budget() != 65*time.Second {
		t.Errorf("b: %+v", b)
	}
	if len(e.Digest) != 64 {
		t.Errorf("digest %q", e.Digest)
	}
}

func TestParse_APhaseHasTheProfilesClass(t *testing.T) {
	content := strings.Replace(good, `stop = "budget"`, "stop = \"budget\"\nclass = \"malicious\"", 1)
	content = strings.Replace(content, `event = "busy"`, "event = \"busy\"\nclass = \"benign\"", 1)
	e, err := experiment.Parse("x", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	a, b := e.Profiles[0], e.Profiles[1]
	if b.Phases[0].Class != experiment.ClassMalicious || b.Phases[1].Class != experiment.ClassBenign || a.Phases[0].Class != "" {
		t.Errorf("%+v", b)
	}
	if string(e.Content) != content {
		t.Error("the content is not the file's")
	}
}

// guest is an experiment with one machine.
func guest(machine string) string {
	return `schema = 1
name = "x"
[[profile]]
name = "a"
weight = 1
[profile.machine]
` + machine + `
[[profile.phase]]
name = "boot"
event = "start"
budget = "5s"
`
}

func TestParse_AMachine(t *testing.T) {
	e, err := experiment.Parse("x", []byte(guest("kernel = \"/boot/vmlinuz\"\nmemory = \"256MiB\"")))
	if err != nil {
		t.Fatal(err)
	}
	p := e.Profiles[0]
	cores, memory := p.Demands()
	if cores != 1 || memory != 256<<20 || p.Machine.Kernel != "/boot/vmlinuz" || p.Collectors.QMPHz != experiment.DefaultQMPHz {
		t.Errorf("%+v", p)
	}
}

func TestParse_TellsPlaceAndReason(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	last := func(old, new string) string {
		i := strings.LastIndex(good, old)
		return good[:i] + new + good[i+len(old):]
	}
	for name, c := range map[string]struct{ content, want string }{
		"empty":       {"", "x: schema: want 1, got 0"},
		"schema":      {edit("schema = 1", "schema = 2"), "x:2:1: schema: want 1, got 2"},
		"no profile":  {"name = \"x\"\nschema = 1\n", "x: profile: want at least one [[profile]]"},
		"not toml":    {"schema = \n", "x:1:10: "},
		"wrong type":  {edit("weight = 1", `weight = "much"`), "x:5:10: "},
		"unknown key": {edit("weight = 1", "wieght = 1"), `x:5:1: profile.wieght: unknown key (did you mean "profile.weight"?)`},
		"missing key": {edit("weight = 1\n", ""), "x:3:3: profile[0].weight: want 1 to 1000000, got 0"},
		"unknown phase key": {
			edit(`budget = "5s"`, `budgte = "5s"`),
			`x:10:1: profile.phase.budgte: unknown key (did you mean "profile.phase.budget"?)`,
		},
		"no command": {edit(`command = ["/bin/true"]`, "command = []"), "x:6:1: profile[0].command: want a program"},
		"both": {
			edit("budget = \"5s\"\n", "budget = \"5s\"\n[profile.machine]\nkernel = \"/k\"\n"),
			"x:6:1: profile[0].command: want a command or a machine, got both",
		},
		"empty machine":   {guest("memory = \"1 GiB\""), "x:6:2: profile[0].machine.kernel: want a kernel or a disk"},
		"initrd alone":    {guest("disk = \"/d\"\ninitrd = \"/i\""), "profile[0].machine.kernel: initrd and append want a kernel"},
		"relative kernel": {guest(`kernel = "vmlinuz"`), `x:7:1: profile[0].machine.kernel: want an absolute, clean path, got "vmlinuz"`},
		"little memory": {
			guest("kernel = \"/k\"\nmemory = \"1 MiB\""),
			"x:8:1: profile[0].machine.memory: want 16 MiB to 1 TiB, got 1.0 MiB",
		},
		"misspelt memory": {
			guest("kernel = \"/k\"\nmemroy = \"1 GiB\""),
			`x:8:1: profile.machine.memroy: unknown key (did you mean "profile.machine.memory"?)`,
		},
		"many cpus":        {guest("kernel = \"/k\"\ncpus = 65"), "x:8:1: profile[0].machine.cpus: want 1 to 64, got 65"},
		"qmp of a command": {edit("proc_hz = 20", "qmp_hz = 20"), "x:18:1: profile[1].collectors.qmp_hz: only a [profile.machine] has QMP"},
		"bad name":         {edit(`name = "a"`, `name = "A b"`), "x:4:1: profile[0].name: want a letter a-z"},
		"same name":        {edit(`name = "b"`, `name = "a"`), `x:12:1: profile[1].name: duplicate profile name "a"`},
		"bad class":        {edit("weight = 1", "weight = 1\nclass = \"Very bad\""), "x:6:1: profile[0].class: want a letter a-z"},
		"bad stop":         {edit(`"budget"`, `"never"`), "x:15:1: profile[1].stop: want \"exit\" or \"budget\", got \"never\""},
		"bad rate":         {edit("proc_hz = 20", "proc_hz = 5000"), "x:18:1: profile[1].collectors.proc_hz: want 0.1 to 100"},
		"bad duration":     {edit(`"5s"`, `"5 parsecs"`), "x:10:10: "},
		"no budget":        {edit("budget = \"5s\"\n", ""), "x:7:3: profile[0].phase[0].budget: want the longest duration"},
		"too long":         {last(`"1m"`, `"25h"`), "x:11:3: profile[1].phase: the budgets add up"},
		"first event": {
			edit(`event = "start"`, `event = "go"`),
			`x:9:1: profile[0].phase[0].event: the first phase begins at "start", got "go"`,
		},
		"second start": {edit(`event = "busy"`, `event = "start"`), `x:25:1: profile[1].phase[1].event: "start" is reserved`},
		"failed phase": {
			last(`name = "busy"`, `name = "failed"`),
			`x:24:1: profile[1].phase[1].name: "failed" is reserved for failed episodes`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := experiment.Parse("x", []byte(c.content))
			if err == nil {
				t.Fatalf("no error, got %+v", e)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if fault.CodeOf(err) != fault.Config || fault.FixOf(err) == "" {
				t.Errorf("code %d, fix %q", fault.CodeOf(err), fault.FixOf(err))
			}
		})
	}
}

func TestParse_TellsAllAtOnce(t *testing.T) {
	_, err := experiment.Parse("x", []byte("schema = 7\nmax_slots = -1\n"))
	for _, want := range []string{"x:1:1: schema", "x:2:1: max_slots", "x: profile"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
}

func TestEmbedded_IsSound(t *testing.T) {
	b, err := os.ReadFile("../../assets/experiment.toml")
	if err != nil {
		t.Fatal(err)
	}
	e, err := experiment.Parse("assets/experiment.toml", b)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Profiles) < 2 {
		t.Errorf("%d profiles", len(e.Profiles))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Fuzz(func(t *testing.T, content string) {
		e, err := experiment.Parse("x", []byte(content))
		if err != nil {
			return
		}
		for _, p := range e.Profiles {
			if p.Weight < 1 || (len(p.Command) == 0) == (p.Machine == nil) || len(p.Phases) == 0 || p.Collectors.ProcHz <= 0 || p.Budget() <= 0 {
				t.Fatalf("accepted what cannot be recorded: %+v", p)
			}
		}
	})
}
