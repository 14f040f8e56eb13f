package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"dsvault/vault/fault"
)

func TestFindMember(t *testing.T) {
	x := Index{Number: 3, Size: 1000}
	for i, name := range []string{"a.txt", "b/c.txt", `q"uo`, "b/c.txt2", "ü/<&>.png", "b", "last"} {
		x.Members = append(x.Members, Member{Name: name, Offset: int64(100 * i), Size: int64(i), Type: "text/plain", SHA256: make([]byte, 32)})
	}
	data, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range x.Members {
		m, err := FindMember(bytes.NewReader(data), 1000, want.Name)
		if err != nil || m.Name != want.Name || m.Offset != want.Offset || m.Size != want.Size || m.Type != want.Type {
			t.Errorf("%q: %+v, %v", want.Name, m, err)
		}
	}
	for _, name := range []string{"", "c.txt", "b/", "a.tx", "a.txt2", `a.txt","offset":0`, "LAST", "\xff"} {
		if _, err := FindMember(bytes.NewReader(data), 1000, name); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// It stops where it has found what it looks for.
	r := io.MultiReader(bytes.NewReader(data[:bytes.Index(data, []byte(`{"name":"b",`))]), failing{})
	if m, err := FindMember(r, 1000, "a.txt"); err != nil || m.Name != "a.txt" {
		t.Errorf("%+v, %v", m, err)
	}
	down := fault.New(fault.Unavailable, "test", "down")
	if _, err := FindMember(io.MultiReader(bytes.NewReader(data[:40]), failing{down}), 1000, "last"); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	line := func(format string, args ...any) string { return fmt.Sprintf(format, args...) + "\n" }
	head := line(`{"version":1,"number":3,"size":1000,"members":1}`)
	zeros := strings.Repeat("0", 64)
	for name, text := range map[string]string{
		"nothing": "", "another shard": line(`{"version":1,"number":3,"size":999,"members":1}`), "another version": line(`{"version":2,"number":3,"size":1000,"members":1}`),
		"no head":     line(`{"name":"a","offset":0,"size":1,"sha256":"%s"}`, zeros),
		"outside":     head + line(`{"name":"a","offset":900,"size":101,"sha256":"%s"}`, zeros),
		"overflow":    head + line(`{"name":"a","offset":9223372036854775807,"size":5,"sha256":"%s"}`, zeros),
		"negative":    head + line(`{"name":"a","offset":-1,"size":5,"sha256":"%s"}`, zeros),
		"no hash":     head + line(`{"name":"a","offset":0,"size":5,"sha256":""}`),
		"odd type":    head + line(`{"name":"a","offset":0,"size":5,"type":"a\r\nb","sha256":"%s"}`, zeros),
		"other field": head + line(`{"name":"a","offset":0,"size":5,"sha256":"%s","x":1}`, zeros),
		"cut":         head + `{"name":"a","offset":0`,
	} {
		if _, err := FindMember(strings.NewReader(text), 1000, "a"); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := head + strings.Repeat("x", maxIndexLine+1) + "\n"
	if _, err := FindMember(strings.NewReader(long), 1000, "a"); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a long line: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, errors.New("read too far")
	}
	return 0, f.err
}
