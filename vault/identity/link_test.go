package identity

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"dsvault/vault/fault"
)

// The secret of a link is no token, a token no secret of a link, and neither
// can be printed.
func TestLinkSecret(t *testing.T) {
	s := must[Secret](t)(NewLinkSecret(rand.Reader))
	token := must[Secret](t)(NewSecret(rand.Reader))
	if !strings.HasPrefix(s.Expose(), "dsl_") || len(s.Expose()) != len("dsl_")+52 {
		t.Errorf("%q", s.Expose())
	}
	if _, err := ParseSecret(s.Expose()); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a link's secret is taken for a token: %v", err)
	}
	if again, ok := parseSecret(linkPrefix, s.Expose()); !ok || again.Hash() != s.Hash() {
		t.Error("a secret does not survive its text")
	}
	for _, bad := range []string{"", "dsl_", token.Expose(), s.Expose() + "a", strings.ToUpper(s.Expose()), "dsl_" + strings.Repeat("1", 52)} {
		if _, ok := parseSecret(linkPrefix, bad); ok {
			t.Errorf("%q is taken for the secret of a link", bad)
		}
	}
	data := must[[]byte](t)(json.Marshal(struct{ S Secret }{s}))
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %x", s, s, s, s), fmt.Sprintf("%v", struct{ s Secret }{s}), string(data)} {
		if strings.Contains(shown, s.Expose()) || strings.Contains(shown, fmt.Sprintf("%x", s.Expose())) {
			t.Errorf("printed: %s", shown)
		}
	}
}
