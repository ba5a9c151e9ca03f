// Package apidoc validates answers against docs/openapi.yaml in tests. It is not part of
// the program.
//
// It rejects a document that does not match OpenAPI's own schema, and an operation without
// tag, id or summary.
package apidoc

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cis490/internal/disk"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// openAPI is the published schema of OpenAPI 3.1 documents.
//
//go:embed oas31.json
var openAPI []byte

// here is the document's URL among the schemas.
const here = "https://collector.lab/openapi.yaml"

// Doc is the document. Its methods are safe for concurrent use.
type Doc struct {
	paths map[string]map[string]operation // by path and lower-case method
	all   any

	mu      sync.Mutex
	c       *jsonschema.Compiler
	schemas map[string]*jsonschema.Schema
}

type operation struct {
	ID        string   `yaml:"operationId"`
	Summary   string   `yaml:"summary"`
	Tags      []string `yaml:"tags"`
	Responses map[string]struct {
		Ref string `yaml:"$ref"`
	} `yaml:"responses"`
}

// Open reads and validates the document.
func Open(path string) (*Doc, error) {
	b, err := disk.ReadFile(disk.OS{}, path, 16<<20)
	if err != nil {
		return nil, err
	}
	var typed struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	d := &Doc{c: jsonschema.NewCompiler(), paths: map[string]map[string]operation{}, schemas: map[string]*jsonschema.Schema{}}
	if err := errors.Join(yaml.Unmarshal(b, &typed), yaml.Unmarshal(b, &d.all)); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	d.c.DefaultDraft(jsonschema.Draft2020)
	d.c.AssertFormat()
	if err := d.sound(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for at, methods := range typed.Paths {
		d.paths[at] = map[string]operation{}
		for method, node := range methods {
			if method == "parameters" || method == "servers" {
				continue
			}
			var op operation
			if err := node.Decode(&op); err != nil || op.ID == "" || op.Summary == "" || len(op.Tags) != 1 {
				return nil, fmt.Errorf("%s: %s %s needs an id, a summary and one tag: %w", path, method, at, err)
			}
			d.paths[at][method] = op
		}
	}
	return d, nil
}

// sound validates the document against OpenAPI's schema.
func (d *Doc) sound() error {
	meta, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		return err
	}
	// Convert YAML to JSON types: numbers, and string keys.
	b, err := json.Marshal(d.all)
	if err != nil {
		return err
	}
	if d.all, err = jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
		return err
	}
	if err := errors.Join(d.c.AddResource("openapi.json", meta), d.c.AddResource(here, d.all)); err != nil {
		return err
	}
	s, err := d.c.Compile("openapi.json")
	if err != nil {
		return err
	}
	return s.Validate(d.all)
}

// Operations returns the sorted operations with the given tags, such as "GET /v1/fleet".
func (d *Doc) Operations(tags ...string) []string {
	var all []string
	for at, methods := range d.paths {
		for method, op := range methods {
			if slices.Contains(tags, op.Tags[0]) {
				all = append(all, strings.ToUpper(method)+" "+at)
			}
		}
	}
	slices.Sort(all)
	return all
}

// Check validates an answer's status, type and body against the document. It reads the body
// and replaces it by a copy.
func (d *Doc) Check(r *http.Request, res *http.Response) error {
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(b))
	if err := d.check(r, res, b); err != nil {
		return fmt.Errorf("%s %s: %d: %w: %.500s", r.Method, r.URL.Path, res.StatusCode, err, b)
	}
	return nil
}

func (d *Doc) check(r *http.Request, res *http.Response, body []byte) error {
	at := d.find(r.URL.Path)
	method := strings.ToLower(r.Method)
	op, ok := d.paths[at][method]
	if !ok {
		return errors.New("no such operation is documented")
	}
	status := strconv.Itoa(res.StatusCode)
	answer, ok := op.Responses[status]
	if _, page := op.Responses["default"]; page {
		return nil
	}
	if !ok {
		return errors.New("the status is not documented")
	}
	place := "#/paths/" + escape(at) + "/" + method + "/responses/" + status
	if answer.Ref != "" {
		place = answer.Ref
	}
	doc, err := d.lookup(place)
	if err != nil {
		return err
	}
	for name, h := range object(doc, "headers") {
		if want, _ := h.(map[string]any)["required"].(bool); want && res.Header.Get(name) == "" {
			return fmt.Errorf("header %s is missing", name)
		}
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")) // "" never matches
	content := object(doc, "content")
	if _, ok := content[kind]; !ok && (len(content) > 0 || len(body) > 0) {
		return fmt.Errorf("content type %q is not documented", kind)
	}
	if kind != "application/json" && !strings.HasSuffix(kind, "+json") || len(content) == 0 {
		return nil
	}
	return d.fits(place+"/content/"+escape(kind)+"/schema", body)
}

// fits validates a body against a schema. An undocumented field is an error too.
func (d *Doc) fits(place string, body []byte) error {
	s, err := d.schema(place)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func (d *Doc) schema(place string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.schemas[place]; s != nil {
		return s, nil
	}
	strict := here + "/strict/" + strconv.Itoa(len(d.schemas))
	ref := here + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(place)
	if err := d.c.AddResource(strict, map[string]any{"$ref": ref, "unevaluatedProperties": false}); err != nil {
		return nil, err
	}
	s, err := d.c.Compile(strict)
	d.schemas[place] = s
	return s, err
}

// find returns the documented path that matches a request's path, with the fewest
// variables.
func (d *Doc) find(path string) string {
	best, fewest := "", 1<<10
	for at := range d.paths {
		want, have := strings.Split(at, "/"), strings.Split(path, "/")
		if len(want) != len(have) {
			continue
		}
		n, fits := 0, true
		for i, w := range want {
			if strings.HasPrefix(w, "{") {
				n++
				fits = fits && have[i] != ""
			} else {
				fits = fits && w == have[i]
			}
		}
		if fits && n < fewest {
			best, fewest = at, n
		}
	}
	return best
}

func (d *Doc) lookup(place string) (any, error) {
	v := d.all
	for part := range strings.SplitSeq(strings.TrimPrefix(place, "#/"), "/") {
		m, ok := v.(map[string]any)
		if v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]; !ok || v == nil {
			return nil, fmt.Errorf("the document has no %s", place)
		}
	}
	return v, nil
}

func object(v any, key string) map[string]any {
	m, _ := v.(map[string]any)
	o, _ := m[key].(map[string]any)
	return o
}

func escape(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }
