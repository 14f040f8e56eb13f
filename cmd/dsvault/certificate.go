package main

import (
	_ "embed"
	"encoding/hex"
	"html/template"
	"io"

	"dsvault/vault/audit"
)

//go:embed certificate.html
var certificateHTML string

var certificateTemplate = template.Must(template.New("certificate").Funcs(template.FuncMap{"stamp": timeText}).Parse(certificateHTML))

// certificatePage writes a verified certificate as a page to print, which needs
// nothing but itself.
func certificatePage(w io.Writer, c audit.Certificate, r audit.CertificateReport) error {
	start, end := audit.LeafHash(c.Start.Leaf), audit.LeafHash(c.End.Leaf)
	return certificateTemplate.Execute(w, struct {
		Erasure                  audit.Erasure
		Origin, Key              string
		Start, End               audit.CertifiedLeaf
		StartHash, EndHash, Root string
		Size                     uint64
	}{
		r.Erasure, c.Origin, c.Key, c.Start, c.End,
		hex.EncodeToString(start[:]), hex.EncodeToString(end[:]), hex.EncodeToString(r.Checkpoint.Root[:]), r.Checkpoint.Size,
	})
}
