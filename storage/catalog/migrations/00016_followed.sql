-- How far each node has followed the policy: nothing is read there any more that
-- the policy of this revision does not allow.
CREATE TABLE followed (
	node     {{.Text}} PRIMARY KEY,
	revision {{.Int}} NOT NULL
){{.End}};
