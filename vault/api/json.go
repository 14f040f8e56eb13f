package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"strings"
	"time"
	"unicode/utf8"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// decode reads the JSON body, strictly: one value of the right type, no unknown
// or repeated fields, nothing behind it, at most wire.MaxJSON.
func decode[T any](c *call) (T, error) {
	const op = "api.decode"
	var v T
	kind, kindParams, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || !strings.EqualFold(kindParams["charset"], "utf-8") && kindParams["charset"] != "" {
		return v, fault.New(fault.Invalid, op, "the body has to be JSON").WithHint("send it with Content-Type: application/json")
	}
	if err := c.body.limit(c.Request().ContentLength, wire.MaxJSON); err != nil {
		return v, err
	}
	c.body.until = time.Now().Add(c.bodyTime)
	data, err := io.ReadAll(c.body)
	switch {
	case err != nil:
		return v, c.body.fault(err)
	case len(bytes.TrimSpace(data)) == 0:
		return v, fault.New(fault.Invalid, op, "the body is missing")
	case !utf8.Valid(data):
		return v, fault.New(fault.Invalid, op, "the body is not UTF-8")
	case bytes.TrimSpace(data)[0] != '{':
		return v, fault.New(fault.Invalid, op, "the body has to be one JSON object")
	}
	if err := checkFields(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return v, notJSON(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, notJSON(err)
	}
	return v, nil
}

// notJSON words an error of encoding/json for the caller.
func notJSON(err error) error {
	const op = "api.decode"
	var f *fault.Error
	var t *json.UnmarshalTypeError
	switch {
	case errors.As(err, &f): // a typed field did not parse
		return f
	case errors.As(err, &t):
		return fault.Wrap(fault.Invalid, op, "the field "+clip(t.Field)+" has the wrong type", err)
	}
	return fault.Wrap(fault.Invalid, op, "the body is not what this request takes: "+clip(strings.TrimPrefix(err.Error(), "json: ")), err)
}

var (
	errTrailing = errors.New("something follows the value")
	errRepeated = errors.New("a field is there twice")
	errField    = errors.New("unknown field")
	errDeep     = errors.New("nested too deeply")
)

const maxDepth = 16

// checkFields refuses what encoding/json would let pass: fields that are there
// twice or in other letters, and anything behind the value.
func checkFields(d *json.Decoder) error {
	if err := checkValue(d, 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errTrailing
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, composite := t.(json.Delim)
	if !composite {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name := t.(string)
			if seen[name] {
				return errRepeated
			}
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				return errField
			}
			seen[name] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token() // the closing one
	return err
}
