package commands

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"cis490/internal/wire"
)
