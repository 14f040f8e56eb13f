package api_test

import (
	"testing"

	"dsvault/storage/storagetest"
)

func TestMain(m *testing.M) { storagetest.Main(m) }
