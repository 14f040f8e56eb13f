package notary

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

const (
	witnessLimit = time.Second     // for one witness and checkpoint; others wait with the publication
	witnessStart = 5 * time.Second // for all that is asked of one at the start
	witnessRest  = time.Minute     // the longest that a witness which fails is left alone
	maxAnswer    = 16 << 10        // bytes of a witness's answer
	sizeType     = "text/x.tlog.size"
)

// Witness is a witness by C2SP tlog-witness.
type Witness struct {
	URL string // the prefix of its API; https, or http to this machine
	Key string // note verifier key
}

// ParseWitness reads "URL KEY".
func ParseWitness(text string) (Witness, error) {
	const op = "notary.ParseWitness"
	bad := func(message string) (Witness, error) {
		return Witness{}, fault.New(fault.Invalid, op, message).WithHint("write --witness 'https://HOST/PATH NAME+HASH+KEY', as the witness shows its URL and verifier key")
	}
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return bad("a witness is a URL and a verifier key, with a space between")
	}
	u, err := url.Parse(fields[0])
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return bad("the URL of the witness is not valid")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if local := u.Hostname() == "localhost" || err == nil && ip.IsLoopback(); u.Scheme == "http" && !local {
		return bad("a witness is asked over https")
	}
	if _, err := audit.WitnessKey(fields[1]); err != nil {
		return bad("the verifier key of the witness is not valid")
	}
	return Witness{URL: strings.TrimRight(fields[0], "/"), Key: fields[1]}, nil
}

// witness is a Witness and what this node knows of it.
type witness struct {
	url      string
	verifier note.Verifier
	http     http.Client

	// Of whoever asks it: at the start, and then the loop.
	size     uint64 // of the checkpoint that it cosigned last
	done     uint64 // of the checkpoint of whose note its line is a part
	failures int    // in a row
	rest     time.Time
}

func newWitness(w Witness) (*witness, error) {
	v, err := audit.WitnessKey(w.Key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "notary.Open", "the verifier key of the witness "+w.URL+" is not valid", err)
	}
	return &witness{url: w.URL, verifier: v, http: http.Client{
		// Whoever we trust with an answer is the one that was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// cosignatures asks the witnesses that have not cosigned the newest checkpoint,
// all at once, and gives the signature lines that came in time; nil if there are
// none. A witness that fails is left alone for a while.
func (n *Notary) cosignatures(ctx context.Context) []byte {
	if n.note == nil {
		return nil
	}
	lines := make([][]byte, len(n.witnesses))
	var all sync.WaitGroup
	for i, w := range n.witnesses {
		if n.cfg.Now().Before(w.rest) || w.done == n.signed.Size {
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, witnessLimit)
			defer cancel()
			var err error
			if lines[i], err = n.cosign(ctx, w, n.signed, n.note); err == nil {
				w.done, w.failures, w.rest = n.signed.Size, 0, time.Time{}
				return
			}
			w.failures++
			w.rest = n.cfg.Now().Add(min(witnessRest, time.Second<<min(w.failures, 10)))
			n.log.Error("a witness has not cosigned the log", "witness", w.verifier.Name(), "err", err)
		})
	}
	all.Wait()
	return bytes.Join(lines, nil)
}

// conflict is a witness's answer that it has seen another size.
type conflict struct{ size uint64 }

func (c conflict) Error() string { return fmt.Sprintf("it has cosigned %d leaves", c.size) }

// errRefused: the witness has seen a log that is not the beginning of ours.
var errRefused = errors.New("it has cosigned another log of this name")

// cosign has one witness cosign a checkpoint. A witness that another node has
// asked meanwhile says from where to prove.
func (n *Notary) cosign(ctx context.Context, w *witness, cp audit.Checkpoint, signed []byte) ([]byte, error) {
	for range 3 {
		if w.size > cp.Size {
			return nil, conflict{w.size}
		}
		proof, err := n.Consistency(ctx, cp, w.size)
		if err != nil {
			return nil, err
		}
		lines, err := w.ask(ctx, w.size, proof, signed)
		var other conflict
		switch {
		case errors.As(err, &other) && other.size == w.size:
			return nil, errRefused // of one size, and yet not the same
		case errors.As(err, &other):
			w.size = other.size
		case err != nil:
			return nil, err
		default:
			w.size = cp.Size
			return lines, nil
		}
	}
	return nil, errors.New("the witness changes its mind")
}

// ask sends one add-checkpoint request and gives the verified signature lines.
func (w *witness) ask(ctx context.Context, old uint64, proof []audit.Hash, signed []byte) ([]byte, error) {
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		body = append(base64.StdEncoding.AppendEncode(body, h[:]), '\n')
	}
	body = append(append(body, '\n'), signed...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(answer) > maxAnswer:
		return nil, errors.New("its answer is too long")
	case resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == sizeType:
		size, err := strconv.ParseUint(strings.TrimSuffix(string(answer), "\n"), 10, 63)
		if err != nil {
			return nil, errors.New("its answer is not a size")
		}
		return nil, conflict{size}
	case resp.StatusCode == http.StatusUnprocessableEntity:
		return nil, errRefused
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden:
		return nil, errors.New("it does not know this log, or not its key: have it add the log's origin and verifier key")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	return w.verify(signed, answer)
}

// verify keeps of an answer the signatures that are the witness's.
func (w *witness) verify(signed, answer []byte) ([]byte, error) {
	opened, err := note.Open(append(bytes.Clone(signed), answer...), note.VerifierList(w.verifier))
	if err != nil {
		return nil, errors.New("its answer is not a cosignature by its key")
	}
	var lines []byte
	for _, sig := range opened.Sigs {
		lines = fmt.Appendf(lines, "— %s %s\n", sig.Name, sig.Base64)
	}
	return lines, nil
}

// askWitnesses compares the log with what the witnesses have cosigned, at the
// start. One that has seen more, or another log, is a reason not to serve; one
// that does not answer is not.
func (n *Notary) askWitnesses(ctx context.Context) error {
	const op = "notary.askWitnesses"
	if len(n.witnesses) == 0 {
		return nil
	}
	cp, signed, err := n.newest(ctx)
	if err != nil || signed == nil {
		return err
	}
	size, err := n.size(ctx)
	if err != nil {
		return err
	}
	for _, w := range n.witnesses {
		asking, cancel := context.WithTimeout(ctx, witnessStart)
		_, err := n.cosign(asking, w, cp, signed)
		cancel()
		var other conflict
		switch {
		case errors.Is(err, errRefused):
			return lost(op, "the witness %s has cosigned another log of this name", w.verifier.Name())
		case errors.As(err, &other) && other.size > size:
			return lost(op, "it has %d leaves, but the witness %s has cosigned %d", size, w.verifier.Name(), other.size)
		case errors.As(err, &other): // of a checkpoint that was not published any more
		case err != nil:
			n.log.Warn("a witness could not be asked; it will be later", "witness", w.verifier.Name(), "err", err)
		}
	}
	return ctx.Err()
}
