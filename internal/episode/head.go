package episode

import (
	"errors"
	"fmt"
	"io"

	"cis490/internal/ident"
)

// Head is what the first blocks of a tarball say about its episode.
type Head struct {
	Meta   Meta
	Labels []Label
}

// errHead ends the reading of a tarball.
var errHead = errors.New("the head is read")

// ReadHead reads meta.json and the labels of a tarball, which may come from anyone, and
// nothing behind them: files are sorted, so telemetry comes last. A tarball without them, or
// over the limits of ReadOverviewOf up to there, is an error.
func ReadHead(tarball io.Reader, id ident.EpisodeID) (Head, error) {
	g := gathering{most: maxGlanceRows}
	labels := false
	err := inspect(tarball, id, maxGlance, func(name string, _ int64, content io.Reader) error {
		if name != MetaFile && name != LabelsFile {
			return nil
		}
		if err := g.file(name, content); err != nil {
			return err
		}
		if labels = labels || name == LabelsFile; labels && g.meta != nil {
			return errHead
		}
		return nil
	})
	switch {
	case err == nil:
		return Head{}, fmt.Errorf("read tarball: it lacks %s or %s", MetaFile, LabelsFile)
	case !errors.Is(err, errHead):
		return Head{}, err
	}
	return Head{*g.meta, g.labels}, nil
}
