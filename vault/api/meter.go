package api

import "time"

// Meter hears of every answer, to count it. Its methods are called by many
// goroutines and must not block. What it hears names nobody: routes are
// patterns, "" where none matched.
type Meter interface {
	// Answered: a request has ended. code is fault's, "" for success; in and out
	// are the bytes of the bodies.
	Answered(route string, status int, code string, took time.Duration, in, out int64)
	// Streams: so many transfers run now.
	Streams(open int)
}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Answered(string, int, string, time.Duration, int64, int64) {}
func (noMeter) Streams(int)                                               {}
