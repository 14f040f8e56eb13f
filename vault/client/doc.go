// Package client is the Go client of a dsvault server: every operation of its
// HTTP API as a typed method, pushing and pulling of datasets, verification of
// the audit log, and the config folder where a user's login lives.
//
// It trusts the server with nothing that it can check itself: data is sealed
// before it leaves this machine and opened on it, shards are checked against
// their sealed manifests, and the log against the key that was pinned at login.
//
// All errors are *fault.Error; those of the server keep their code, reasons
// and hint.
package client
