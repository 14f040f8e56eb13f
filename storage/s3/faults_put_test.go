package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

// everyOperation runs each operation of a store that has the object "a" of
// 1 MiB; "new" and "large" are to be put.
var everyOperation = map[string]func(context.Context, *Store) error{
	"Stat":   func(ctx context.Context, s *Store) error { _, err := s.Stat(ctx, "a"); return err },
	"Delete": func(ctx context.Context, s *Store) error { return s.Delete(ctx, "a") },
	"Sweep":  func(ctx context.Context, s *Store) error { _, err := s.Sweep(ctx, time.Now()); return err },
	"Probe":  func(ctx context.Context, s *Store) error { _, err := s.Probe(ctx); return err },
	"Put": func(ctx context.Context, s *Store) error {
		_, err := s.Put(ctx, "new", strings.NewReader("x"), 1)
		return err
	},
	"Put in parts": func(ctx context.Context, s *Store) error {
		_, err := s.Put(ctx, "large", io.LimitReader(zeros{}, partSize+1), -1)
		return err
	},
	"Open": func(ctx context.Context, s *Store) error {
		r, err := s.Open(ctx, "a", 0, -1, "")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	},
	"List": func(ctx context.Context, s *Store) error {
		for _, err := range s.List(ctx, "") {
			return err
		}
		return errors.New("nothing was listed")
	},
}

// TestNoGoodAnswer: whatever the server does for ever, every operation ends by
// itself, says that it is the server, and has asked a bounded number of times.
func TestNoGoodAnswer(t *testing.T) {
	stall := func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		<-r.Context().Done() // there is no other end
		return nil, r.Context().Err()
	}
	ways := map[string]func(*http.Request, http.RoundTripper) (*http.Response, error){
		"a storm of 503": func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			return answer(r, http.StatusServiceUnavailable, "<Error><Code>SlowDown</Code></Error>"), nil
		},
		"resets": func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			return nil, syscall.ECONNRESET
		},
		"a proxy's page": func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			return answer(r, http.StatusBadGateway, "<html>sorry</html>"), nil
		},
		"a stall": stall,
		"a stall in the middle": func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.ContentLength > 0 { // of the request
				if _, err := io.CopyN(io.Discard, r.Body, r.ContentLength/2); err != nil {
					return nil, err
				}
				return stall(r, next)
			}
			resp, err := next.RoundTrip(r)
			if err != nil || r.Method == http.MethodHead || r.Method == http.MethodDelete {
				return resp, err
			}
			wait := readerFunc(func([]byte) (int, error) { <-r.Context().Done(); return 0, r.Context().Err() })
			resp.Body = body{io.MultiReader(io.LimitReader(resp.Body, 10), wait), resp.Body}
			return resp, nil
		},
	}
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		for way, fault := range ways {
			s, f := faulty(t, server)
			mustPut(t, s, "a", make([]byte, 1<<20))
			s.watch.patience = 20 * time.Millisecond
			for name, run := range everyOperation {
				requests := 0
				f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					requests++
					return fault(r, next)
				}
				err := run(t.Context(), s)
				f.fault = nil
				whole := way == "a stall in the middle" && (name == "Stat") // it has no body
				if !whole && !isUnavailable(err) {
					t.Errorf("%s: %s: error %v", way, name, err)
				}
				if requests > 5*maxTries {
					t.Errorf("%s: %s made %d requests", way, name, requests)
				}
			}
			s.watch.patience = time.Minute
			for _, key := range []string{"new", "large"} {
				if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNoObject) {
					t.Errorf("%s: %s is there, though no request had its whole body: %v", way, key, err)
				}
			}
		}
	})
}

func isUnavailable(err error) bool {
	return fault.Is(err, fault.Unavailable) && fault.HintOf(err) != ""
}

// TestResetInUpload breaks the connection in the middle of a body.
func TestResetInUpload(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		for name, size := range map[string]int{"small": 100_000, "large": partSize + 100_000} {
			data := bytes.Repeat([]byte("0123456789"), size/10)
			for _, resets := range []int{1, 2 * maxTries} {
				key, left := fmt.Sprintf("%s-%d", name, resets), resets
				f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					if r.Method == http.MethodPut && left > 0 && !strings.Contains(r.URL.Path, scratch) {
						left--
						r.Body = body{io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), failing{syscall.ECONNRESET}), r.Body}
					}
					return next.RoundTrip(r)
				}
				_, err := s.Put(t.Context(), key, bytes.NewReader(data), -1)
				f.fault = nil
				switch {
				case left == resets:
					t.Errorf("%s: nothing was reset", key)
				case resets == 1 && server.Name == "rclone" && isUnavailable(err):
					t.Logf("%s: %v", key, err) // it may remove what the broken PUT left after the next one has ended
				case resets == 1 && err != nil:
					t.Errorf("%s: one reset: %v", key, err)
				case resets == 1:
					checkContent(t, s, key, data)
				case !isUnavailable(err):
					t.Errorf("%s: resets for ever: error %v", key, err)
				default:
					if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNoObject) {
						t.Errorf("%s: part of the bytes were stored: %v", key, err)
					}
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// TestWrongETag has one kind of answer name another ETag than the object's.
func TestWrongETag(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		wrongIn := func(method string) {
			f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				resp, err := next.RoundTrip(r)
				if err == nil && r.Method == method && isObject(r) {
					resp.Header.Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
				}
				return resp, err
			}
		}
		data := []byte("these bytes")
		wrongIn(http.MethodPut)
		put, err := s.Put(t.Context(), "put", bytes.NewReader(data), -1)
		f.fault = nil
		if err != nil {
			t.Errorf("the bytes are there, the answer to PUT was wrong: %v", err)
		} else if r, err := s.Open(t.Context(), "put", 0, -1, put.ETag); err != nil {
			t.Error(err)
		} else {
			r.Close()
		}
		wrongIn(http.MethodPut) // of parts: Complete names what the server has not
		_, err = s.Put(t.Context(), "parts", io.LimitReader(zeros{}, partSize+1), -1)
		f.fault = nil
		if !isUnavailable(err) {
			t.Errorf("the answers for parts were wrong: error %v", err)
		}
		if _, err := s.Stat(t.Context(), "parts"); !errors.Is(err, storage.ErrNoObject) {
			t.Errorf("it was completed all the same: %v", err)
		}
		checkNoUploads(t, s, "parts")
		f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil && isComplete(r) {
				text, _ := io.ReadAll(resp.Body)
				text = regexp.MustCompile(`<ETag>.*</ETag>`).ReplaceAll(text, []byte("<ETag>d41d8cd98f00b204e9800998ecf8427e</ETag>"))
				resp.Body, resp.ContentLength = body{bytes.NewReader(text), resp.Body}, int64(len(text))
			}
			return resp, err
		}
		put2, err := s.Put(t.Context(), "complete", io.LimitReader(zeros{}, partSize+1), -1)
		f.fault = nil
		if err != nil {
			t.Errorf("the bytes are there, the answer to Complete was wrong: %v", err)
		} else if o, err := s.Stat(t.Context(), "complete"); err != nil || o.ETag != put2.ETag {
			t.Errorf("%+v is pinned, and there is %+v, %v", put2, o, err)
		}
		wrongIn(http.MethodGet)
		for _, r := range [][2]int64{{0, -1}, {0, 5}, {3, 2}, {3, -1}} {
			if _, err := s.Open(t.Context(), "put", r[0], r[1], put.ETag); !errors.Is(err, storage.ErrChanged) {
				t.Errorf("GET: error %v, want %v", err, storage.ErrChanged)
			}
		}
		wrongIn(http.MethodHead)
		if _, err := s.Put(t.Context(), "head", bytes.NewReader(data), -1); !fault.Is(err, fault.Unavailable) {
			t.Errorf("HEAD: error %v", err)
		}
	})
}

// TestKeptOther: a server that says it took the bytes, and then holds others of
// the same size, is found out if it does not check what it takes.
func TestKeptOther(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s, f := faulty(t, server)
		for key, size := range map[string]int{"small": 1000, "large": partSize + 1000} {
			f.fault = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if strings.Contains(r.URL.Path, scratch) {
					return answer(r, http.StatusOK, ""), nil // as weak servers do
				}
				resp, err := next.RoundTrip(r)
				if err == nil && r.Method == http.MethodGet && isObject(r) {
					resp.Body = body{io.MultiReader(strings.NewReader("?"), skip(resp.Body, 1)), resp.Body}
				}
				return resp, err
			}
			_, err := s.Put(t.Context(), key, bytes.NewReader(make([]byte, size)), int64(size))
			f.fault = nil
			if !isUnavailable(err) {
				t.Errorf("%s: error %v", key, err)
			}
			if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNoObject) {
				t.Errorf("%s: the wrong bytes are still there: %v", key, err)
			}
		}
	})
}

// skip leaves the first n bytes of r out.
func skip(r io.Reader, n int64) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if n > 0 {
			if _, err := io.CopyN(io.Discard, r, n); err != nil {
				return 0, err
			}
			n = 0
		}
		return r.Read(b)
	})
}

// checkNoUploads looks for what an upload has left behind.
func checkNoUploads(t *testing.T, s *Store, key string) {
	t.Helper()
	page, err := s.core.ListMultipartUploads(t.Context(), s.config.Bucket, s.name(key), "", "", "", 0)
	if err != nil && codeOf(err) != minio.NoSuchUpload {
		t.Fatal(err)
	}
	if len(page.Uploads) > 0 {
		t.Errorf("%d unfinished uploads to %s are left", len(page.Uploads), key)
	}
}
