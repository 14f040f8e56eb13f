-- The leaves of one commit are one row, with their details: see batch.go for
-- how they are packed. The rows of the tables leaves and details are moved by
-- moveLeaves, which drops those tables then.

CREATE TABLE leaf_batches (
	first   {{.Int}} PRIMARY KEY, -- index of the first leaf
	count   {{.Int}} NOT NULL CHECK (count > 0),
	time    {{.Int}} NOT NULL, -- of the last leaf
	leaves  {{.Blob}} NOT NULL,
	details {{.Blob}} NOT NULL
){{.End}};
{{.Uncompressed "leaf_batches" "leaves"}}
{{.Uncompressed "leaf_batches" "details"}}

-- Which batches have leaves of a slot.
CREATE TABLE leaf_slots (
	slot  {{.Int}} NOT NULL,
	first {{.Int}} NOT NULL,
	PRIMARY KEY (slot, first)
){{.EndKeyed}};

-- Which batches have details of a person.
CREATE TABLE leaf_people (
	principal {{.Blob}} NOT NULL,
	first     {{.Int}} NOT NULL,
	PRIMARY KEY (principal, first)
){{.EndKeyed}};
