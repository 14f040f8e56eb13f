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

-- Which batches have details of a person; 16 zero bytes stand for leaves
-- without details.
CREATE TABLE leaf_people (
	principal {{.Blob}} NOT NULL,
	first     {{.Int}} NOT NULL,
	PRIMARY KEY (principal, first)
){{.EndKeyed}};

-- What else there was is in the read's leaf.
ALTER TABLE open_reads DROP COLUMN slot;
ALTER TABLE open_reads DROP COLUMN dataset;
ALTER TABLE open_reads DROP COLUMN shard;
ALTER TABLE open_reads DROP COLUMN principal;
ALTER TABLE open_reads DROP COLUMN max_bytes;
ALTER TABLE open_reads DROP COLUMN time;
