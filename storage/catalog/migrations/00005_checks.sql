-- Comparisons of the catalog with the object store, and what they have found.
CREATE TABLE checks (
	id           {{.Blob}} PRIMARY KEY,
	slot         {{.Int}} NOT NULL,
	path         {{.Text}} NOT NULL,
	data         {{.Int}} NOT NULL,
	repair       {{.Int}} NOT NULL,
	rate         {{.Int}} NOT NULL,
	scheduled    {{.Int}} NOT NULL,
	state        {{.Text}} NOT NULL,
	problem      {{.Text}} NOT NULL,
	node         {{.Text}} NOT NULL,
	started_at   {{.Int}} NOT NULL,
	started_by   {{.Blob}} NOT NULL,
	moved_at     {{.Int}} NOT NULL,
	ended_at     {{.Int}} NOT NULL,
	objects      {{.Int}} NOT NULL,
	bytes        {{.Int}} NOT NULL,
	cursor_scope {{.Text}} NOT NULL,
	cursor_key   {{.Text}} NOT NULL,
	checked      {{.Int}} NOT NULL,
	bytes_read   {{.Int}} NOT NULL,
	missing      {{.Int}} NOT NULL,
	changed      {{.Int}} NOT NULL,
	extra        {{.Int}} NOT NULL,
	leftovers    {{.Int}} NOT NULL,
	repaired     {{.Int}} NOT NULL,
	findings     {{.Int}} NOT NULL,
	ahead        {{.Int}} NOT NULL
){{.End}};
CREATE INDEX checks_started ON checks (started_at, id);
CREATE INDEX checks_state ON checks (state);

CREATE TABLE findings (
	check_id {{.Blob}} NOT NULL REFERENCES checks (id),
	number   {{.Int}} NOT NULL,
	kind     {{.Text}} NOT NULL,
	object   {{.Text}} NOT NULL,
	path     {{.Text}} NOT NULL,
	shard    {{.Int}} NOT NULL,
	repaired {{.Int}} NOT NULL,
	detail   {{.Text}} NOT NULL,
	PRIMARY KEY (check_id, number)
){{.End}};
