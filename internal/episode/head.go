package episode

import (
	"fmt"
	"io"

	"cis490/internal/ident"
)

// Head is what a tarball says about its episode.
type Head struct {
	Meta   Meta
	Labels []Label
}

// ReadHead reads meta.json and the labels of a tarball, which may come from anyone. It also
// decompresses the rest, so a tarball that is damaged anywhere, lacks one of them or is over
// the limits is an error.
func (i *Inspector) ReadHead(tarball io.Reader, id ident.EpisodeID) (Head, error) {
	g := gathering{most: maxGlanceRows}
	labels := false
	err := i.Inspect(tarball, id, func(name string, _ int64, content io.Reader) error {
		if name != MetaFile && name != LabelsFile {
			return nil
		}
		labels = labels || name == LabelsFile
		return g.file(name, content)
	})
	if err == nil && (g.meta == nil || !labels) {
		err = fmt.Errorf("read tarball: it lacks %s or %s", MetaFile, LabelsFile)
	}
	if err != nil {
		return Head{}, err
	}
	return Head{*g.meta, g.labels}, nil
}
