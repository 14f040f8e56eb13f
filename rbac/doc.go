// Package rbac decides who may do what. A Policy is a small table of rules
// that people can read and Casbin evaluates; a World is the in-memory index of
// grants, assignments, signatures and states from which the facts of each
// question are computed; a Partial is one that takes people's rows as they are
// asked about. Facts are never taken from the caller, every error is
// a refusal, and what no rule allows is refused.
//
// Casbin lives in this package and is visible nowhere else.
package rbac
