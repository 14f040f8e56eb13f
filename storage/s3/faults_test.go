package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

// faults stands between the store and a real server. With fault unset it only
// passes on.
type faults struct {
	next  http.RoundTripper
	fault func(*http.Request, http.RoundTripper) (*http.Response, error)
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.fault == nil {
		return f.next.RoundTrip(r)
	}
	return f.fault(r, f.next)
}

// faulty opens a store whose requests pass through the returned faults.
func faulty(t *testing.T, server storagetest.S3Server) (*Store, *faults) {
	t.Helper()
	transport := NewTransport(false)
	t.Cleanup(transport.CloseIdleConnections)
	f := &faults{next: transport}
	return mustOpen(t, server, "p", f), f
}

// body replaces how an answer's body is read.
type body struct {
	io.Reader
	io.Closer
}

// answer makes an answer that no server gave.
func answer(r *http.Request, status int, text string) *http.Response {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
	}
}

func isObject(r *http.Request) bool { return strings.Contains(r.URL.Path, "/p/") }

func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func TestAnswerBreaksOff(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		const size, sent = 1 << 20, 1000
		mustPut(t, s, "a", make([]byte, size))
		for name, end := range map[string]struct {
			with error // of the body, after the first bytes
			want error
		}{
			"reset":      {syscall.ECONNRESET, syscall.ECONNRESET},
			"truncated":  {io.EOF, io.ErrUnexpectedEOF},
			"unexpected": {io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		} {
			f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				resp, err := next.RoundTrip(r)
				if err == nil && r.Method == http.MethodGet && isObject(r) {
					resp.Body = body{io.MultiReader(io.LimitReader(resp.Body, sent), failing{end.with}), resp.Body}
				}
				return resp, err
			}
			for _, length := range []int64{-1, size, 5000} {
				r, err := s.Open(t.Context(), "a", 0, length, "")
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, r)
				if n != sent || !errors.Is(err, end.want) || !fault.Is(err, fault.Unavailable) {
					t.Errorf("%s: read %d bytes, error %v; want %d and %v", name, n, err, sent, end.want)
				}
				r.Close()
			}
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestOverloaded: a server that is busy once is asked again, one that is busy
// for good is not asked for ever.
func TestOverloaded(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		data := bytes.Repeat([]byte("0123456789"), partSize/10+1) // two parts
		seen := map[string]bool{}
		f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if request := r.Method + r.URL.String(); !seen[request] {
				seen[request] = true
				return answer(r, http.StatusServiceUnavailable, "<Error><Code>SlowDown</Code></Error>"), nil
			}
			return next.RoundTrip(r)
		}
		for key, data := range map[string][]byte{"small": data[:100], "large": data} {
			mustPut(t, s, key, data)
			checkContent(t, s, key, data)
		}
		for _, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Error(err)
			}
		}
		if err := s.Delete(t.Context(), "small"); err != nil {
			t.Error(err)
		}

		tries := 0
		f.fault = func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			tries++
			return answer(r, http.StatusServiceUnavailable, "<Error><Code>SlowDown</Code></Error>"), nil
		}
		if _, err := s.Stat(t.Context(), "large"); !fault.Is(err, fault.Unavailable) || tries != maxTries {
			t.Errorf("after %d requests: error %v", tries, err)
		}
	})
}

// TestLostAnswer loses what the server says to the last request of a Put.
func TestLostAnswer(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		for key, size := range map[string]int{"small": 100, "large": partSize + 1} {
			data := make([]byte, size)
			for _, losses := range []int{1, maxTries} {
				lost := 0
				f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					resp, err := next.RoundTrip(r)
					last := isComplete(r) || r.Method == http.MethodPut && !r.URL.Query().Has("uploadId")
					if err == nil && last && lost < losses {
						lost++
						resp.Body.Close()
						return nil, syscall.ECONNRESET
					}
					return resp, err
				}
				o, err := s.Put(t.Context(), key, bytes.NewReader(data), int64(size))
				f.fault = nil
				switch {
				case lost == 0:
					t.Errorf("%s: no answer was lost", key)
				case err != nil: // what is there decides, not what was heard of it
					t.Errorf("%s, %d answers lost: error %v", key, losses, err)
				default:
					if stat, err := s.Stat(t.Context(), key); err != nil || stat != o {
						t.Errorf("%s: Put gave %+v, Stat %+v, %v", key, o, stat, err)
					}
					checkContent(t, s, key, data)
				}
				checkNoUploads(t, s, key)
			}
		}
	})
}

// TestDamagedOnTheWay changes a byte between store and server. The server has
// to notice, or else the checksums are in vain.
func TestDamagedOnTheWay(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		for key, size := range map[string]int{"small": 100_000, "large": partSize + 100_000} {
			f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if r.Method == http.MethodPut && !strings.Contains(r.URL.Path, scratch) {
					damaged, err := io.ReadAll(r.Body)
					if err != nil {
						return nil, err
					}
					if said := r.Header.Get("X-Amz-Content-Sha256"); said != hexSum(sha256.Sum256(damaged)) {
						t.Errorf("%s: the signed checksum is %q, not the body's", key, said)
					}
					damaged[len(damaged)/2] ^= 1
					r.Body.Close()
					r.Body = io.NopCloser(bytes.NewReader(damaged))
				}
				return next.RoundTrip(r)
			}
			_, err := s.Put(t.Context(), key, bytes.NewReader(make([]byte, size)), int64(size))
			f.fault = nil
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: error %v, want %s", key, err, fault.Unavailable)
			}
			if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNoObject) {
				t.Errorf("%s: damaged bytes were stored: %v", key, err)
			}
		}
	})
}

// TestStalled: the caller need not wait as long as the store would.
func TestStalled(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		mustPut(t, s, "a", make([]byte, 1<<20))
		stalled := func(run func(context.Context) error) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f.fault = func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
				cancel() // the caller gives up once the server has stalled
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			if err := run(ctx); !fault.Is(err, fault.Canceled) || !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			f.fault = nil
		}
		stalled(func(ctx context.Context) error { _, err := s.Stat(ctx, "a"); return err })
		stalled(func(ctx context.Context) error { _, err := s.Open(ctx, "a", 0, -1, ""); return err })
		stalled(func(ctx context.Context) error { return s.Delete(ctx, "a") })
		stalled(func(ctx context.Context) error { _, err := s.Put(ctx, "b", strings.NewReader("x"), 1); return err })
		stalled(func(ctx context.Context) error {
			for _, err := range s.List(ctx, "") {
				return err
			}
			return nil
		})

		// And in the middle of a body.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				stall := readerFunc(func([]byte) (int, error) { cancel(); <-r.Context().Done(); return 0, r.Context().Err() })
				resp.Body = body{io.MultiReader(io.LimitReader(resp.Body, 1000), stall), resp.Body}
			}
			return resp, err
		}
		r, err := s.Open(ctx, "a", 0, -1, "")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, r); !fault.Is(err, fault.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestWeakServer: a server that knows neither Range nor If-Match sends the whole
// of whatever is there.
func TestWeakServer(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		put := mustPut(t, s, "a", []byte("0123456789"))
		etag, contentRange := "", ""
		f.fault = func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			resp := answer(r, http.StatusOK, "0123456789")
			resp.Header.Set("Content-Length", "10")
			resp.Header.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			resp.Header.Set("ETag", etag)
			if contentRange != "" {
				resp.Header.Set("Content-Range", contentRange)
			}
			return resp, nil
		}
		etag = `"another"`
		for _, r := range [][2]int64{{0, -1}, {3, 4}, {0, 10}, {0, 0}} {
			if _, err := s.Open(t.Context(), "a", r[0], r[1], put.ETag); !errors.Is(err, storage.ErrChanged) {
				t.Errorf("without If-Match: error %v, want %v", err, storage.ErrChanged)
			}
		}
		etag = `"` + put.ETag + `"`
		for _, contentRange = range []string{"", "bytes 0-9/10", "bytes 4-7/10", "bytes 3-6/10", "bytes 3-2/1", "bytes 3-99/10", "nonsense"} {
			for _, r := range [][2]int64{{3, 4}, {3, -1}} {
				if _, err := s.Open(t.Context(), "a", r[0], r[1], put.ETag); !fault.Is(err, fault.Unavailable) {
					t.Errorf("Content-Range %q: error %v, want %s", contentRange, err, fault.Unavailable)
				}
			}
		}
	})
}

// TestNotFoundIsNotAbsent: neither a proxy's page nor a lost bucket means that
// the object is absent.
func TestNotFoundIsNotAbsent(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		// wrong does everything, and gives what is not told as an outage.
		wrong := func() (list []error) {
			_, stat := s.Stat(t.Context(), "a")
			_, open := s.Open(t.Context(), "a", 0, -1, "")
			removed := s.Delete(t.Context(), "a")
			_, put := s.Put(t.Context(), "a", strings.NewReader("x"), 1)
			for i, err := range []error{stat, open, removed, put} {
				if !fault.Is(err, fault.Unavailable) || errors.Is(err, storage.ErrNoObject) || fault.HintOf(err) == "" {
					list = append(list, fmt.Errorf("%d: %w", i, err))
				}
			}
			for _, err := range s.List(t.Context(), "") {
				if !fault.Is(err, fault.Unavailable) {
					list = append(list, fmt.Errorf("List: %w", err))
				}
			}
			return list
		}
		f.fault = func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			return answer(r, http.StatusNotFound, "<html>nothing here</html>"), nil
		}
		if list := wrong(); len(list) > 0 {
			t.Errorf("a proxy's 404: %v", list)
		}
		f.fault = nil
		if err := s.core.RemoveBucket(t.Context(), server.Bucket); err != nil {
			t.Fatal(err)
		}
		if list := wrong(); len(list) > 0 {
			if back, err := s.core.BucketExists(t.Context(), server.Bucket); server.Name == "minio" && err == nil && back {
				t.Log("MinIO has brought back the bucket that it had removed, as it does now and then")
				return
			}
			t.Errorf("the bucket was removed: %v", list)
		}
	})
}

// TestSweepAborts leaves an upload as a killed process does. Only versitygw
// lists uploads by prefix; for the others see TestKilledUpload.
func TestSweepAborts(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		other := mustOpen(t, server, "p2", nil) // its prefix begins with ours
		f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if isComplete(r) || r.Method == http.MethodDelete {
				return nil, syscall.ECONNRESET
			}
			return next.RoundTrip(r)
		}
		if _, err := s.Put(t.Context(), "v1/a", bytes.NewReader(make([]byte, partSize+1)), -1); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("error %v", err)
		}
		f.fault = nil
		want := map[string]int{"versitygw": 1, "minio": 0, "rclone": 0}[server.Name]
		for _, step := range []struct {
			store  *Store
			cutoff time.Time
			want   int
		}{
			{s, time.Now().Add(-time.Hour), 0}, {other, time.Now().Add(time.Hour), 0},
			{s, time.Now().Add(time.Hour), want}, {s, time.Now().Add(time.Hour), 0},
		} {
			if n, err := step.store.Sweep(t.Context(), step.cutoff); err != nil || n != step.want {
				t.Errorf("Sweep(%v) = %d, %v; want %d", step.cutoff, n, err, step.want)
			}
		}
	})
}

// TestMemory: one Put holds two parts, however large the object is, and not on the
// heap, which would grow to twice that.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("parts are on the heap here")
	}
	for _, server := range servers { // one by one: what others allocate would count
		t.Run(server.name, func(t *testing.T) {
			s := mustOpen(t, server.start(t), "", nil)
			var before, after runtime.MemStats
			idle := len(parts.warm) + len(parts.cold)
			runtime.ReadMemStats(&before)
			if _, err := s.Put(t.Context(), "a", io.LimitReader(zeros{}, 5*partSize), -1); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used >= partSize/2 {
				t.Errorf("a Put of %d MiB allocated %d MiB on the heap", 5*partSize>>20, used>>20)
			}
			if more := len(parts.warm) + len(parts.cold) - idle; more > 2 || more == 0 && idle == 0 {
				t.Errorf("a Put mapped %d parts", more)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestConcurrentFaults drops every seventh request while many run.
func TestConcurrentFaults(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		var requests atomic.Int64
		f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil && requests.Add(1)%7 == 0 {
				resp.Body.Close()
				return nil, syscall.ECONNRESET
			}
			return resp, err
		}
		acknowledged := make(chan string, 100)
		done := make(chan struct{})
		for w := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := range 20 {
					key := string(rune('a'+w)) + "/" + string(rune('a'+i))
					_, err := s.Put(t.Context(), key, strings.NewReader(key), -1)
					if err == nil {
						acknowledged <- key
					} else if !fault.Is(err, fault.Unavailable) {
						t.Errorf("error %v", err)
					}
				}
			}()
		}
		for range 4 {
			<-done
		}
		close(acknowledged)
		f.fault = nil
		for key := range acknowledged {
			checkContent(t, s, key, []byte(key))
		}
	})
}
