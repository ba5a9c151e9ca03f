package manifest

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"cis490/internal/disk"
)

// smallest is the size from which a binary is also published compressed, in bytes.
const smallest = 64 << 10

// packedWindow bounds the memory that unpacking needs, in bytes.
const packedWindow = 8 << 20

// publishPacked writes the compressed content, unless it is there.
func publishPacked(fsys disk.FS, path string, content []byte) error {
	if len(content) < smallest {
		return nil
	}
	if have, err := disk.ReadFile(fsys, path, int64(len(content))); err == nil {
		var plain bytes.Buffer
		if err := Unpack(&plain, bytes.NewReader(have), int64(len(content))); err == nil && bytes.Equal(plain.Bytes(), content) {
			return nil
		}
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(packedWindow))
	if err != nil {
		return err
	}
	return disk.ReplaceBytes(fsys, path, 0o644, z.EncodeAll(content, nil))
}

// Unpack writes the content of a compressed binary, which must have exactly size bytes.
// Memory does not grow with the content.
func Unpack(w io.Writer, packed io.Reader, size int64) error {
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(packedWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	n, err := io.Copy(w, io.LimitReader(z, size+1))
	switch {
	case err != nil:
		return err
	case n != size:
		return fmt.Errorf("unpacked %d bytes, the manifest says %d", n, size)
	}
	return nil
}
