package catalog

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

func testLeases(s *fixture) {
	const long = time.Hour
	take := func(holder string, ttl time.Duration) (held bool) {
		s.Helper()
		s.write(func(ctx context.Context, tx *Tx) (err error) {
			held, err = tx.TakeLease(ctx, "sweep", holder, ttl)
			return err
		})
		return held
	}
	drop := func(holder string) {
		s.Helper()
		s.write(func(ctx context.Context, tx *Tx) error { return tx.DropLease(ctx, "sweep", holder) })
	}
	same(s, "the first", take("a", long), true)
	same(s, "another", take("b", long), false)
	same(s, "again", take("a", long), true)
	drop("b")
	same(s, "another, after a drop of what it does not have", take("b", long), false)
	drop("a")
	same(s, "another, after a drop", take("b", -time.Second), true)
	same(s, "after it ran out", take("a", long), true)
	same(s, "the former holder", take("b", long), false)
}

// testLeaseRace: of many that want a lease which ran out, one gets it.
func testLeaseRace(s *fixture) {
	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.TakeLease(ctx, "sweep", "dead", -time.Second)
		return err
	})
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		db := open(s, s.url)
		all.Go(func() {
			err := db.Update(s.Context(), func(tx *Tx) error {
				held, err := tx.TakeLease(s.Context(), "sweep", fmt.Sprint(i), time.Hour)
				if held {
					won.Add(1)
				}
				return err
			})
			if err != nil {
				s.Error(err)
			}
		})
	}
	all.Wait()
	same(s, "holders", won.Load(), 1)
}

func lease(holder string, ttl time.Duration) Lease {
	return Lease{Name: "notary", Holder: holder, TTL: ttl, Logger: slog.New(slog.DiscardHandler)}
}

// testHold: the holder is told when it is not the holder any more, and gives
// back what it has.
func testHold(s *fixture) {
	ctx, stop := context.WithCancel(s.Context())
	began, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	held := make(chan struct{})
	go func() {
		defer close(held)
		s.db.Hold(ctx, lease("a", 300*time.Millisecond), func(term context.Context) {
			began <- struct{}{}
			<-term.Done()
			ended <- struct{}{}
		})
	}()
	<-began
	// It is taken away behind its back, as by a clock that leapt.
	s.write(func(ctx context.Context, tx *Tx) error {
		if err := tx.DropLease(ctx, "notary", "a"); err != nil {
			return err
		}
		_, err := tx.TakeLease(ctx, "notary", "b", time.Hour)
		return err
	})
	<-ended
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropLease(ctx, "notary", "b") })
	<-began
	stop()
	<-ended
	<-held
	s.write(func(ctx context.Context, tx *Tx) error {
		free, err := tx.TakeLease(ctx, "notary", "b", time.Hour)
		same(s, "given back", free, true)
		return err
	})
}

// testHoldAlone: whoever is alone asks nobody, and f runs again when it returns.
func testHoldAlone(s *fixture) {
	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.TakeLease(ctx, "notary", "dead", time.Hour)
		return err
	})
	ctx, stop := context.WithCancel(s.Context())
	l := lease("a", 30*time.Millisecond)
	l.Alone = true
	runs := 0
	s.db.Hold(ctx, l, func(context.Context) {
		if runs++; runs == 2 {
			stop()
		}
	})
	same(s, "runs", runs, 2)
}

// childHolds takes the lease, says so, and holds it until it is killed.
func childHolds() {
	db, err := Open(context.Background(), os.Getenv(childEnv+"_URL"), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	db.Hold(context.Background(), lease("child", 0), func(ctx context.Context) {
		fmt.Println("held")
		<-ctx.Done()
	})
}

// testHolderKilled: another process takes over from a holder that was killed.
func testHolderKilled(s *fixture) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=hold", childEnv+"_URL="+s.url)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		s.Fatalf("the child said %q, %v", line, err)
	}
	s.write(func(ctx context.Context, tx *Tx) error {
		held, err := tx.TakeLease(ctx, "notary", "third", time.Hour)
		same(s, "while the holder lives", held, false)
		return err
	})
	ctx, stop := context.WithTimeout(s.Context(), time.Minute)
	defer stop()
	took := make(chan struct{})
	go s.db.Hold(ctx, lease("heir", 0), func(term context.Context) {
		close(took)
		<-ctx.Done()
	})
	cmd.Process.Kill()
	select {
	case <-took:
	case <-ctx.Done():
		s.Fatal("nobody took over")
	}
}
