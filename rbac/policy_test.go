package rbac

import (
	"testing"
	"time"

	"dsvault/policies"
)

func TestDefault(t *testing.T) {
	start := time.Now()
	p, err := LoadPolicy(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(len(p.Rules()), time.Since(start))
}
