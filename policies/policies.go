// Package policies holds the authorization policy that dsvault ships: the
// Casbin model, the table of rules and the truth table that the rules have to
// meet. Package rbac reads and checks them.
package policies

import "embed"

// FS holds model.conf, policy.csv and truth.csv.
//
//go:embed model.conf policy.csv truth.csv
var FS embed.FS
