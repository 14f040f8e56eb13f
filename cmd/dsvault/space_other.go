//go:build !linux && !darwin

package main

import "errors"

// diskSpace cannot be asked for on this system.
func diskSpace(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
