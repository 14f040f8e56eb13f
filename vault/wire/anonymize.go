package wire

// Anonymized says what became of a person. POST /v1/people/{handle}/anonymize;
// it cannot be undone. Asked again, for the pseudonym, it clears away what was
// left.
type Anonymized struct {
	Pseudonym   string `json:"pseudonym"` // what the person is called from now on
	Tokens      int    `json:"tokens"`    // ended
	Grants      int    `json:"grants"`    // ended
	Assignments int    `json:"assignments"`
	About       int    `json:"about"`   // records of others about the person, whose details went too
	Cleared     bool   `json:"cleared"` // false: rows or pages of the database still hold traces, and are cleared later
}
