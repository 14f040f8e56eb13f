-- The ways of delivery that a project allows besides sealed, as a JSON array.
ALTER TABLE projects ADD COLUMN delivery {{.Text}} NOT NULL DEFAULT '[]';

-- Links: a short way to one item, for one person. What the item is called is
-- sealed under that person's key.
CREATE TABLE links (
	id         {{.Blob}} PRIMARY KEY,
	hash       {{.Blob}} NOT NULL UNIQUE,
	principal  {{.Blob}} NOT NULL REFERENCES principals (id),
	token      {{.Blob}} NOT NULL REFERENCES tokens (id),
	path       {{.Text}} NOT NULL REFERENCES scopes (path),
	shard      {{.Int}} NOT NULL,
	delivery   {{.Text}} NOT NULL,
	item       {{.Blob}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	expires    {{.Int}} NOT NULL,
	ended      {{.Int}} NOT NULL
){{.End}};
CREATE INDEX links_principal ON links (principal, id);
