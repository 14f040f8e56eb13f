package audit

import (
	"fmt"
	"time"
)

// Statement is what a leaf of KindStatement in the vault's slot says: the Array
// of all slots as of just before that leaf.
type Statement struct {
	Index  uint64 // of the statement's leaf: the statement is of the leaves before it
	Time   int64  // of that leaf, Unix microseconds
	Length uint64 // slots in the array: one more than the highest that has a leaf
	Root   Hash   // of the array
}

// Fields are the extension of a statement's leaf.
func (s *Statement) Fields() []Field {
	return []Field{BytesField(FieldArrayRoot, s.Root[:]), Uint64Field(FieldArrayLength, s.Length)}
}

// ReadStatement reads the leaf at index as a statement. The error is a
// *VerifyError of CheckStatement.
func ReadStatement(index uint64, l *Leaf) (Statement, error) {
	s := Statement{Index: index, Time: l.Time}
	root, hasRoot := l.Bytes(FieldArrayRoot)
	length, hasLength := l.Uint64(FieldArrayLength)
	switch {
	case l.Kind != KindStatement || l.Slot != 0 || l.Decision == Refused:
		return s, statementError(index, "it is not a statement")
	case !hasRoot || len(root) != len(s.Root) || !hasLength:
		return s, statementError(index, "it is a statement without an array")
	case length > index || length > MaxSlots: // every slot up to the highest has a leaf
		return s, statementError(index, "it states more slots than there are leaves before it")
	}
	s.Length, s.Root = length, Hash(root)
	return s, nil
}

func statementError(index uint64, format string, args ...any) error {
	return &VerifyError{Check: CheckStatement, Index: int64(index), Detail: fmt.Sprintf(format, args...)}
}

// At is the statement's time.
func (s *Statement) At() time.Time { return time.UnixMicro(s.Time).UTC() }
