package dictionary

import (
	"bytes"
	"fmt"
)

// Tables returns the keys of all files as Markdown.
func Tables() []byte {
	var b bytes.Buffer
	for _, f := range Files() {
		fmt.Fprintf(&b, "### %s\n\n%s. Schema: [%s](data/%s)\n\n", f.Name, sentence(f.Text), f.SchemaName(), f.SchemaName())
		b.WriteString("| key | type | unit | meaning | origin |\n|---|---|---|---|---|\n")
		for _, k := range f.Keys {
			text := k.Text
			if k.Kind == Counter {
				text += " (counter)"
			}
			if k.Optional {
				text += " (optional)"
			}
			if k.Since > 1 {
				text += fmt.Sprintf(" (since version %d)", k.Since)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.Type, k.Unit, text, k.Origin)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func sentence(s string) string { return string(bytes.ToUpper([]byte(s[:1]))) + s[1:] }
