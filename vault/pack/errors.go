package pack

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"dsvault/vault/fault"
)

// DiskFault classifies an error of this machine's file system as the functions
// of this package do: Unavailable with a hint when the disk is full.
func DiskFault(op, message string, err error) error { return localFault(op, message, err) }

// localFault classifies an error of this machine's file system.
func localFault(op, message string, err error) error {
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return canceled(op, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Invalid, op, message+": permission denied", err).
			WithHint("check its owner and permissions, then run the command again")
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fault.Wrap(fault.Conflict, op, message+": something else has that name", err).
			WithHint("move it away, or choose another folder")
	case errors.Is(err, syscall.ENOSPC):
		return fault.Wrap(fault.Unavailable, op, message+": the disk is full", err).
			WithHint("free some space, then run the command again")
	default:
		return fault.Wrap(fault.Unavailable, op, message, err)
	}
}

func canceled(op string, err error) error {
	return fault.Wrap(fault.CodeOf(err), op, "stopped", err)
}

func changed(op, name string, err error) error {
	return fault.Wrap(fault.Conflict, op, quote(name)+" changed while it was pushed", err).
		WithHint("wait until nothing writes to it, then run the command again")
}
