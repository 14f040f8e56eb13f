-- upload: the object store's ID of an upload in parts that somebody else puts.
-- part_size: 0, or sha256 is over the SHA-256 of every so many sealed bytes.
ALTER TABLE attempts ADD COLUMN upload {{.Text}} NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN part_size {{.Int}} NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN part_size {{.Int}} NOT NULL DEFAULT 0;

-- The parts of an attempt that were announced, numbered from 1.
CREATE TABLE parts (
	attempt {{.Blob}} NOT NULL,
	number  {{.Int}} NOT NULL,
	sha256  {{.Blob}} NOT NULL,
	PRIMARY KEY (attempt, number)
){{.End}};
