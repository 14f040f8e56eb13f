package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// answerFunc is a server that never runs.
type answerFunc func(*http.Request) (*http.Response, error)

func (f answerFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowly takes its time over every piece, and then stands still.
type slowly struct {
	ctx    context.Context
	each   time.Duration
	pieces int
}

func (s *slowly) Read(b []byte) (int, error) {
	if s.pieces == 0 || s.ctx.Err() != nil {
		<-s.ctx.Done()
		return 0, s.ctx.Err()
	}
	s.pieces--
	time.Sleep(s.each)
	return copy(b, "piece"), nil
}

// TestWatch runs in made-up time. What is slow goes on for as long as it takes;
// what stands still is called off after exactly one patience.
func TestWatch(t *testing.T) {
	const patience, pieces = time.Minute, 100
	upload := func(method, path string) *http.Request {
		r, err := http.NewRequest(method, "http://s3.example"+path, bytes.NewReader(make([]byte, pieces)))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, test := range map[string]struct {
		r     *http.Request
		serve answerFunc
		want  time.Duration // until it is called off
	}{
		"no answer": {upload("GET", "/"), func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, patience},
		"no answer to Complete": {upload("POST", "/?uploadId=1"), func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 10 * patience},
		"a slow upload, then no answer": {upload("PUT", "/"), func(r *http.Request) (*http.Response, error) {
			one := iotest.OneByteReader(r.Body)
			for range pieces {
				time.Sleep(patience - time.Second)
				if _, err := one.Read(make([]byte, 1)); err != nil {
					return nil, err
				}
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, pieces*(patience-time.Second) + patience},
		"a slow download that stops": {upload("GET", "/"), func(r *http.Request) (*http.Response, error) {
			return &http.Response{Body: io.NopCloser(&slowly{r.Context(), patience - time.Second, pieces})}, nil
		}, pieces*(patience-time.Second) + patience},
		"an early answer, then a stop": {upload("PUT", "/"), func(r *http.Request) (*http.Response, error) {
			return &http.Response{Body: io.NopCloser(&slowly{r.Context(), time.Second, 1})}, nil
		}, time.Second + patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				resp, err := (&watch{next: test.serve, patience: patience}).RoundTrip(test.r)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					defer resp.Body.Close()
				}
				if took := time.Since(begun); !errors.Is(err, errStalled) || took != test.want {
					t.Errorf("after %v: error %v; want %v after %v", took, err, errStalled, test.want)
				}
			})
		})
	}

	t.Run("a slow reader is no stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &watch{patience: patience, next: answerFunc(func(r *http.Request) (*http.Response, error) {
				go func() { // a transport may go on with the request
					time.Sleep(time.Second)
					_, _ = io.Copy(io.Discard, r.Body)
				}()
				return &http.Response{Body: io.NopCloser(&slowly{r.Context(), 0, 1})}, nil
			})}
			resp, err := w.RoundTrip(upload("PUT", "/"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			time.Sleep(100 * patience)
			if n, err := resp.Body.Read(make([]byte, 10)); n == 0 || err != nil {
				t.Errorf("read %d bytes, error %v", n, err)
			}
		})
	})

	t.Run("the caller's own end", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &watch{patience: patience, next: answerFunc(func(r *http.Request) (*http.Response, error) {
			cancel()
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		if _, err := w.RoundTrip(upload("GET", "/").WithContext(ctx)); !errors.Is(err, context.Canceled) || errors.Is(err, errStalled) {
			t.Errorf("error %v", err)
		}
	})

	t.Run("the body is left alone afterwards", func(t *testing.T) {
		for name, failed := range map[string]error{"answered": nil, "failed": errors.New("reset")} {
			var body io.Reader
			w := &watch{patience: patience, next: answerFunc(func(r *http.Request) (*http.Response, error) {
				body = r.Body
				if _, err := io.ReadFull(body, make([]byte, 10)); err != nil {
					return nil, err
				}
				return &http.Response{Body: http.NoBody}, failed
			})}
			r := upload("PUT", "/")
			under := r.Body
			if resp, err := w.RoundTrip(r); err == nil {
				resp.Body.Close()
			}
			if n, err := body.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
				t.Errorf("%s: a late transport read %d bytes, error %v", name, n, err)
			}
			if rest, err := io.ReadAll(under); len(rest) != pieces-10 || err != nil {
				t.Errorf("%s: %d bytes are left for the next try, want %d; %v", name, len(rest), pieces-10, err)
			}
		}
	})
}
