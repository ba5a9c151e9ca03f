package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"cis490/internal/dictionary"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/plain"
)

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

// describe writes the schemas, the card, the Croissant file and the manifest.
func (o Options) describe(m Manifest) error {
	write := func(name string, b []byte) error {
		at := path.Join(o.Out, name)
		if err := disk.MkdirAll(disk.OS{}, path.Dir(at), 0o755); err != nil {
			return err
		}
		return disk.ReplaceBytes(disk.OS{}, at, 0o644, b)
	}
	for _, f := range dictionary.Files() {
		b, err := f.Schema()
		if err == nil {
			err = write("schemas/"+f.SchemaName(), b)
		}
		if err != nil {
			return err
		}
	}
	tables := allFormats().tables()
	card := m.card(tables)
	for name, v := range map[string]any{"croissant.json": m.croissant(tables)} {
		b, err := json.MarshalIndent(v, "", "  ")
		if err == nil {
			err = write(name, append(b, '\n'))
		}
		if err != nil {
			return err
		}
	}
	if err := write("README.md", card); err != nil {
		return err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return write(ManifestFile, append(b, '\n'))
}

// title returns the export's name for people.
func (m Manifest) title() string {
	if m.Name != "" {
		return plain.Line(m.Name, 100)
	}
	return "cis490-" + m.Snapshot[:12]
}

// card returns the dataset card.
func (m Manifest) card(tables []*table) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "---\npretty_name: %q\ntags: [telemetry, linux, procfs, behaviour, time-series]\n---\n\n", m.title())
	fmt.Fprintf(&b, "# %s\n\n%d recorded episodes of Linux workloads: resource use over time, with labels of phase and class.\n\n",
		m.title(), m.Episodes)
	fmt.Fprintf(&b, "- snapshot `%s`\n- query: %s\n- format: %s, split: %s\n- %d episodes were left out; `%s` has the reasons\n",
		m.Snapshot, markdown(m.Query, 400), m.Format, cmpOr(m.Split, "none"), m.LeftOut, LeftOutFile)
	b.WriteString("\nThe same snapshot and options give the same bytes: `cis490 export --snapshot snapshot.jsonl` makes this export again.\n")
	b.WriteString("\n## Counts\n\n| split | episodes | classes | profiles | hosts |\n|---|---|---|---|---|\n")
	for _, split := range slices.Sorted(maps.Keys(m.Splits)) {
		c := m.Splits[split]
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %d |\n", cmpOr(split, "all"), c.Episodes, tally(c.Classes), tally(c.Profiles), len(c.Hosts))
	}
	if m.Format == WebDataset {
		b.WriteString("\n## Samples\n\n" +
			"Each shard is a tar archive. The files of a sample have one key, `HOST-EPISODE`; the rest of a name is the file's name in\n" +
			"the episode. `schemas/` describes them.\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, "\n## Tables\n\n"+
		"Rows of telemetry have the phase and class of the last label at or before them. `%s` is the phase of rows before the\n"+
		"first label. A column that ends in `_per_s` is the rate of the counter before it.\n", Before)
	for _, t := range tables {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| column | type | unit | meaning |\n|---|---|---|---|\n", t.name, t.about)
		for _, c := range t.columns {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.name, c.kind, c.unit, c.about)
		}
	}
	return b.Bytes()
}

// markdown returns a text, which may be a host's, as text of a card: not as markup, and not
// as the end of a table's cell.
func markdown(s string, limit int) string {
	return strings.NewReplacer(
		`\`, `\\`, "`", "\\`", "|", `\|`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "&", "&amp;", "<", "&lt;", ">", "&gt;",
	).Replace(plain.Line(s, limit))
}

// String names the type as people know it.
func (k kind) String() string { return [...]string{"int64", "float64", "string", "bool"}[k] }

func cmpOr(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

func tally(of map[string]int) string {
	var b bytes.Buffer
	for i, k := range slices.Sorted(maps.Keys(of)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", cmpOr(markdown(k, 64), "none"), of[k])
	}
	return b.String()
}

// croissant returns the description in Croissant 1.0, the JSON-LD of mlcommons.org.
func (m Manifest) croissant(tables []*table) map[string]any {
	type object = map[string]any
	used := map[string]bool{}
	files := []object{}
	for _, f := range m.Files {
		used[f.Table] = true
		files = append(files, object{
			"@type": "cr:FileObject", "@id": f.Path, "name": f.Path, "contentUrl": f.Path, "contentSize": fmt.Sprintf("%d B", f.Bytes),
			"encodingFormat": m.Format.mediaType(), "sha256": f.Digest,
		})
	}
	sets := []object{}
	for _, t := range tables {
		if !used[t.name] || m.Format == WebDataset {
			continue
		}
		id := "files-" + t.name
		files = append(files, object{
			"@type": "cr:FileSet", "@id": id, "name": id, "encodingFormat": m.Format.mediaType(),
			"includes": "data/*/" + t.name + "-*" + m.Format.suffix(),
		})
		fields := []object{}
		for _, c := range t.columns {
			fields = append(fields, object{
				"@type": "cr:Field", "@id": t.name + "/" + c.name, "name": c.name, "description": c.about,
				"dataType": [...]string{"sc:Integer", "sc:Float", "sc:Text", "sc:Boolean"}[c.kind],
				"source":   object{"fileSet": object{"@id": id}, "extract": object{"column": c.name}},
			})
		}
		sets = append(sets, object{"@type": "cr:RecordSet", "@id": t.name, "name": t.name, "description": t.about, "field": fields})
	}
	return object{
		"@context": object{
			"@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
			"conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
			"data": object{"@id": "cr:data", "@type": "@json"}, "dataType": object{"@id": "cr:dataType", "@type": "@vocab"},
			"dct": "http://purl.org/dc/terms/", "examples": object{"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
			"field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
			"format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
			"key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
			"references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
			"sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
		},
		"@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0", "name": m.title(), "version": "1.0.0",
		"description": fmt.Sprintf("%d recorded episodes of Linux workloads; %s", m.Episodes, m.Query),
		"url":         "urn:sha256:" + m.Snapshot, "citeAs": "snapshot " + m.Snapshot,
		"distribution": files, "recordSet": sets,
	}
}

// mediaType returns the files' type.
func (f Format) mediaType() string {
	switch f {
	case Parquet:
		return "application/vnd.apache.parquet"
	case WebDataset:
		return "application/x-tar"
	}
	return "application/gzip"
}
