//go:build !linux

package pack

import (
	"io/fs"
	"os"
)

// syncTree puts the stage's files on disk, one by one.
func syncTree(stage *os.Root, _ *os.File) error {
	return fs.WalkDir(stage.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := stage.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
