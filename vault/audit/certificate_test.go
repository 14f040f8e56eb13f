package audit_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvault/vault/audit"
)

// certified is a log with the erasure of slot 1, and what its certificate says.
func certified(t testing.TB) (*bundled, audit.Erasure, audit.Certificate) {
	t.Helper()
	b := sampleBundle(t)
	id := id16(7)
	start := audit.Leaf{Kind: audit.KindErase, Slot: 1, Object: audit.Object{Kind: audit.ObjectDataset, ID: id16(1)}}
	start.Set(audit.BytesField(audit.FieldErasureID, id[:]))
	end := audit.Leaf{Kind: audit.KindEraseEnd, Slot: 1, Object: audit.Object{Kind: audit.ObjectDataset, ID: id16(1)}}
	final := time.UnixMicro(startTime + 1000).UTC()
	end.Set(audit.BytesField(audit.FieldErasureID, id[:]), audit.Uint64Field(audit.FieldFinal, uint64(final.UnixMicro())),
		audit.Uint64Field(audit.FieldEpoch, 1), audit.Uint64Field(audit.FieldCount, 2), audit.Uint64Field(audit.FieldVersions, 3),
		audit.Uint64Field(audit.FieldMarkers, 0), audit.Uint64Field(audit.FieldUploads, 0), audit.Uint64Field(audit.FieldErasedBytes, 9),
		audit.Uint64Field(audit.FieldDatasets, 1))
	from, to := b.log.add(t, start), b.log.add(t, end)
	b.size = b.log.tree.Size()
	at := func(index uint64) time.Time { return time.UnixMicro(startTime + int64(index/2)).UTC() }
	leaf := func(index uint64) audit.CertifiedLeaf {
		return audit.CertifiedLeaf{Index: index, Leaf: b.log.data[index], Proof: naivePath(int(index), b.log.data[:b.size])}
	}
	says := audit.Erasure{
		ID: "ers_aaaaaaaaaaaaaaaaaaaaaaaaa4", Scope: "acme/signs/batch-1", Cause: "request", Started: at(from), Ended: at(to), Final: final, Epoch: 1,
		Datasets: []audit.ErasedDataset{{Scope: "acme/signs/batch-1"}}, Objects: 2, Versions: 3, Bytes: 9,
	}
	return b, says, audit.Certificate{Version: 1, Origin: origin, Key: b.header.Key, Start: leaf(from), End: leaf(to), Checkpoint: string(b.checkpoint(t))}
}

// TestCertificate: what a certificate says is what its records say, whoever signed it.
func TestCertificate(t *testing.T) {
	for name, edit := range map[string]func(*audit.Erasure, *audit.Certificate){
		"":                    func(*audit.Erasure, *audit.Certificate) {},
		"of another erasure":  func(e *audit.Erasure, _ *audit.Certificate) { e.ID = "ers_aaaaaaaaaaaaaaaaaaaaaaaabe" },
		"of none":             func(e *audit.Erasure, _ *audit.Certificate) { e.ID = "" },
		"with fewer objects":  func(e *audit.Erasure, _ *audit.Certificate) { e.Objects-- },
		"with more datasets":  func(e *audit.Erasure, _ *audit.Certificate) { e.Datasets = append(e.Datasets, e.Datasets...) },
		"final sooner":        func(e *audit.Erasure, _ *audit.Certificate) { e.Final = e.Final.Add(-time.Microsecond) },
		"begun sooner":        func(e *audit.Erasure, _ *audit.Certificate) { e.Started = e.Started.Add(-time.Second) },
		"of an older epoch":   func(e *audit.Erasure, _ *audit.Certificate) { e.Epoch-- },
		"the wrong way round": func(_ *audit.Erasure, c *audit.Certificate) { c.Start, c.End = c.End, c.Start },
		"with one record":     func(_ *audit.Erasure, c *audit.Certificate) { c.End = c.Start },
	} {
		t.Run(name, func(t *testing.T) {
			b, says, c := certified(t)
			edit(&says, &c)
			if err := c.SignCertificate(says, b.signers...); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := audit.ParseCertificate(data)
			if err != nil {
				t.Fatal(err)
			}
			report, err := parsed.Verify(b.options(t))
			if name != "" {
				wantCheck(t, err, audit.CheckCertificate, -1)
			} else if err != nil || report.Erasure.ID != says.ID {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

func FuzzCertificate(f *testing.F) {
	b, says, c := certified(f)
	if err := c.SignCertificate(says, b.signers...); err != nil {
		f.Fatal(err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(strings.Replace(string(data), `"erasure":{`, `"erasure":{"Erasure":"ers_x",`, 1)))
	f.Add([]byte(strings.Replace(string(data), `"object_versions":3`, `"object_versions":4`, 1)))
	keys := b.options(f).Keys
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := audit.ParseCertificate(data)
		if err != nil {
			return
		}
		report, err := c.Verify(audit.BundleOptions{Keys: keys, Origin: origin})
		if err == nil && !reflect.DeepEqual(report.Erasure, says) {
			t.Fatalf("it is taken to say %+v", report.Erasure)
		}
		c.Verify(audit.BundleOptions{})
	})
}
