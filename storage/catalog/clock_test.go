package catalog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dsvault/storage/storagetest"
)

// TestClock has a node's clock go wrong and right again.
func TestClock(t *testing.T) {
	db, err := Open(t.Context(), storagetest.Postgres(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var ahead time.Duration
	var said bytes.Buffer
	c, err := db.FollowClock(t.Context(), func() time.Time { return time.Now().Add(ahead) }, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.Close() // the test compares itself
	for _, step := range []struct {
		ahead, apart time.Duration
		says         string
	}{
		{0, 0, ""},
		{time.Second, 0, ""},
		{10 * time.Minute, 10 * time.Minute, "is wrong"},
		{10*time.Minute + time.Second, 10 * time.Minute, ""}, // said already
		{-10 * time.Minute, -10 * time.Minute, "is wrong"},
		{0, 0, "is right again"},
	} {
		ahead = step.ahead
		said.Reset()
		if err := c.compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if off := c.Apart() - step.apart; off.Abs() > clockSlack {
			t.Errorf("%v ahead: %v apart, want %v", step.ahead, c.Apart(), step.apart)
		}
		if off := time.Until(c.Now()); off.Abs() > 2*clockSlack {
			t.Errorf("%v ahead: the time is %v off", step.ahead, off)
		}
		if text := said.String(); (text == "") != (step.says == "") || !strings.Contains(text, step.says) {
			t.Errorf("%v ahead: said %q, want %q", step.ahead, text, step.says)
		}
	}
	// What takes too long tells nothing.
	at := time.Now()
	c.note(at, at.Add(time.Minute), at.Add(2*time.Minute))
	c.note(at, at.Add(5*time.Second), at.Add(time.Minute))
	if c.Apart() != 0 {
		t.Errorf("a slow answer: %v apart", c.Apart())
	}
}
