package contacts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cis490/internal/ident"
)

// encode returns the file's content. It encodes only the contacts that changed, because all
// requests wait for it. The caller holds mu.
func (b *Recorder) encode() ([]byte, error) {
	out, err := json.Marshal(struct {
		Contacts
		Hosts int `json:"hosts,omitempty"` // added below
	}{Contacts: b.c})
	if err != nil {
		return nil, err
	}
	out = append(bytes.TrimSuffix(out, []byte("}")), `,"hosts":{`...)
	hosts := make(map[ident.Host][]byte, len(b.c.Hosts))
	for n, h := range slices.Sorted(maps.Keys(b.c.Hosts)) {
		content := b.encoded[h]
		if content == nil {
			if content, err = json.Marshal(b.c.Hosts[h]); err != nil {
				return nil, err
			}
		}
		if hosts[h] = content; n > 0 {
			out = append(out, ',')
		}
		out = append(fmt.Appendf(out, "%q:", h), content...)
	}
	b.encoded = hosts
	return append(out, "}}"...), nil
}
