package rbac

import "fmt"

type engine struct{}

func newEngine(string, []Rule) (*engine, error) { return &engine{}, nil }
func (*engine) decide(Kind, Action, RoleSet, Facts) (verdict, error) { return verdict{}, nil }
func parseRules([]byte) ([]Rule, error) { return nil, nil }

type truthCase struct{}

func parseTruth([]byte) ([]truthCase, error)   { return nil, nil }
func checkGuardrails(r []Rule, ix *index) error { return nil }
func checkTruth([]Rule, []truthCase, func(Kind, Action, RoleSet, Facts) (verdict, error)) error {
	return nil
}
func at(file string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{file, line}, args...)...)
}
func (PrincipalChange) apply(*World)  {}
func (ClientChange) apply(*World)     {}
func (ProjectChange) apply(*World)    {}
func (DatasetChange) apply(*World)    {}
func (GrantChange) apply(*World)      {}
func (AssignmentChange) apply(*World) {}
func (AgreementChange) apply(*World)  {}
func (SignatureChange) apply(*World)  {}
