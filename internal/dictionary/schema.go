package dictionary

import (
	"encoding/json"
	"fmt"
	"strings"
)

// SchemaName returns the file name of a file's schema.
func (f File) SchemaName() string {
	return strings.TrimSuffix(strings.TrimSuffix(f.Name, ".jsonl"), ".json") + ".schema.json"
}

// node is a JSON Schema (draft 2020-12).
type node struct {
	Schema      string           `json:"$schema,omitempty"`
	Title       string           `json:"title,omitempty"`
	Comment     string           `json:"$comment,omitempty"`
	Description string           `json:"description,omitempty"`
	Type        string           `json:"type,omitempty"`
	Format      string           `json:"format,omitempty"`
	Unit        string           `json:"x-unit,omitempty"`
	Kind        Kind             `json:"x-kind,omitempty"`
	Since       int              `json:"x-since,omitempty"`
	Origin      string           `json:"x-origin,omitempty"`
	Required    []string         `json:"required,omitempty"`
	Properties  map[string]*node `json:"properties,omitempty"`
	Items       *node            `json:"items,omitempty"`
	Values      *node            `json:"additionalProperties,omitempty"`
}

// Schema returns the JSON Schema of the file, or of each of its rows. Unknown keys are
// valid, as readers must ignore them. Keys of version 1 are required, so that episodes of
// every version are valid.
func (f File) Schema() ([]byte, error) {
	what := f.Name
	if f.Rows {
		what = "a row of " + f.Name
	}
	root := &node{
		Schema: "https://json-schema.org/draft/2020-12/schema", Title: what, Type: "object", Description: f.Text,
		Comment: fmt.Sprintf("dictionary version %d", Version),
	}
	for _, k := range f.Keys {
		root.add(k)
	}
	b, err := json.MarshalIndent(root, "", "  ")
	return append(b, '\n'), err
}

// add puts a key into the tree. Keys of objects precede those of their members.
func (n *node) add(k Key) {
	path := strings.Split(strings.NewReplacer("[]", ".[]", "{}", ".{}").Replace(k.Name), ".")
	for _, part := range path[:len(path)-1] {
		n = n.child(part)
	}
	last := path[len(path)-1]
	if required := !k.Optional && (k.Since == 1 || strings.ContainsAny(k.Name, ".")); required && last != "[]" && last != "{}" {
		n.Required = append(n.Required, last)
	}
	n = n.child(last)
	n.Description, n.Unit, n.Kind, n.Since, n.Origin = k.Text, k.Unit, k.Kind, k.Since, k.Origin
	switch k.Type {
	case Time:
		n.Type, n.Format = "string", "date-time"
	case List:
		n.Type = "array"
	case Map:
		n.Type = "object"
	default:
		n.Type = string(k.Type)
	}
}

// child returns a part of the schema, and makes it if it is missing.
func (n *node) child(part string) *node {
	switch part {
	case "[]":
		if n.Items == nil {
			n.Items = &node{Type: "object"}
		}
		return n.Items
	case "{}":
		if n.Values == nil {
			n.Values = &node{Type: "object"}
		}
		return n.Values
	}
	if n.Properties == nil {
		n.Properties = map[string]*node{}
	}
	if n.Properties[part] == nil {
		n.Properties[part] = &node{Type: "object"}
	}
	return n.Properties[part]
}
