-- What one node at a time does. until is by the database's clock.
CREATE TABLE leases (
	name   {{.Text}} PRIMARY KEY,
	holder {{.Text}} NOT NULL,
	until  {{.Int}} NOT NULL
){{.End}};

-- The newest signed checkpoint; no row before the first.
CREATE TABLE checkpoint (
	one  {{.Int}} PRIMARY KEY CHECK (one = 1),
	size {{.Int}} NOT NULL,
	note {{.Blob}} NOT NULL
){{.End}};

-- Full tiles of the log's tree, made from its leaves: hashes are 256 of 32
-- bytes, root is that of the tree over them. The root comes first, so that many
-- can be read without the hashes.
CREATE TABLE tiles (
	level  {{.Int}} NOT NULL,
	n      {{.Int}} NOT NULL,
	root   {{.Blob}} NOT NULL,
	hashes {{.Blob}} NOT NULL,
	PRIMARY KEY (level, n)
){{.End}};
