// Package storagetest holds the tests that every object store has to pass, and
// starts the real servers that tests run against: versitygw, MinIO,
// rclone, PostgreSQL.
// It is imported by tests only.
package storagetest
