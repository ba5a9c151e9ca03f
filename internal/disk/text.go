package disk

import (
	"bytes"
	"errors"
)

// ErrUTF16 means that a text is UTF-16, which some Windows editors and shells write.
var ErrUTF16 = errors.New("the text is UTF-16; save it as UTF-8, such as with: iconv -f UTF-16 -t UTF-8")

// Text returns the content of a file without a leading byte order mark. It returns ErrUTF16
// for UTF-16.
func Text(content []byte) ([]byte, error) {
	if bytes.HasPrefix(content, []byte{0xff, 0xfe}) || bytes.HasPrefix(content, []byte{0xfe, 0xff}) {
		return nil, ErrUTF16
	}
	return bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")), nil
}

// ReadText is ReadFile and Text.
func ReadText(fsys FS, path string, limit int64) (string, error) {
	content, err := ReadFile(fsys, path, limit)
	if err == nil {
		content, err = Text(content)
	}
	return string(content), err
}
