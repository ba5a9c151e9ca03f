package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"

	"cis490/internal/ident"
	rel "cis490/internal/manifest"
)

// offers reports whether a release at its stage is for this host.
func offers(p *rel.Progress, h ident.Host) bool {
	if p == nil {
		return false
	}
	switch p.Stage {
	case rel.StageAll:
		return true
	case rel.StageQuarter:
		return slices.Contains(p.Canaries, h) || slices.Contains(p.Clean, h) || (h != "" && inQuarter(p.Seq, h))
	case rel.StageCanary:
		return slices.Contains(p.Canaries, h) || slices.Contains(p.Clean, h)
	}
	return false
}

// inQuarter selects one host in four by a hash, different ones for each release.
func inQuarter(seq uint64, h ident.Host) bool { return draw(seq, h)%4 == 0 }

func draw(seq uint64, h ident.Host) uint32 {
	sum := sha256.Sum256([]byte(strconv.FormatUint(seq, 10) + "/" + string(h)))
	return binary.BigEndian.Uint32(sum[:4])
}
