//go:build !unix

package pack

import (
	"errors"
	"io/fs"
	"os"
)

const readFlags = os.O_RDONLY

// fileID is empty where a FileInfo has no inode: size and time must do.
type fileID struct{}

func idOf(fs.FileInfo) fileID { return fileID{} }

// tryLock is not available: leftovers stay, and parallel runs are unguarded.
func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }
