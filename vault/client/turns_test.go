package client

import "testing"

func TestTurns(t *testing.T) {
	turns := newTurns()
	var earlier [4]<-chan struct{}
	var end [4]func()
	for i := range earlier {
		earlier[i], end[i] = turns.next()
	}
	check := func(when string, want ...bool) {
		t.Helper()
		for i, c := range earlier {
			closed := false
			select {
			case <-c:
				closed = true
			default:
			}
			if closed != want[i] {
				t.Errorf("%s: run %d is told %v", when, i, closed)
			}
		}
	}
	check("at first", true, false, false, false)
	end[1]()
	check("after the second", true, false, false, false)
	end[0]()
	check("after the first two", true, true, true, false)
	end[2]()
	end[3]()
	check("at last", true, true, true, true)
}
