//go:build !dsvault_pgxstdlib

package catalog

func init() { withoutPostgres = true }
