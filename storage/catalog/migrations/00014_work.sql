-- Whether annotators may claim shards of a project, instead of being assigned.
ALTER TABLE projects ADD COLUMN claims {{.Int}} NOT NULL DEFAULT 0;

-- claim: the person took it under a lease, nobody gave it.
ALTER TABLE assignments ADD COLUMN claim {{.Int}} NOT NULL DEFAULT 0;
CREATE INDEX assignments_dataset ON assignments (dataset, ended, until);

-- Work that annotators have returned on shards. latest: the newest of its author
-- on this shard. note: why it was sent back, sealed under the author's key.
CREATE TABLE work (
	id           {{.Blob}} PRIMARY KEY,
	dataset      {{.Blob}} NOT NULL REFERENCES datasets (id),
	path         {{.Text}} NOT NULL,
	number       {{.Int}} NOT NULL,
	author       {{.Blob}} NOT NULL REFERENCES principals (id),
	latest       {{.Int}} NOT NULL,
	attempt      {{.Blob}} NOT NULL UNIQUE,
	object       {{.Text}} NOT NULL UNIQUE,
	etag         {{.Text}} NOT NULL,
	sealed_size  {{.Int}} NOT NULL,
	plain_size   {{.Int}} NOT NULL,
	sha256       {{.Blob}} NOT NULL,
	part_size    {{.Int}} NOT NULL,
	header       {{.Blob}} NOT NULL,
	nonce        {{.Blob}} NOT NULL,
	manifest     {{.Blob}} NOT NULL,
	state        {{.Text}} NOT NULL,
	submitted_at {{.Int}} NOT NULL,
	decided_at   {{.Int}} NOT NULL,
	decided_by   {{.Blob}} NOT NULL,
	note         {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX work_shard ON work (dataset, number, submitted_at, id);
CREATE INDEX work_author ON work (author);
CREATE INDEX work_submitted ON work (submitted_at, id);

-- Access reviews: who has access at a scope, and whether they keep it.
CREATE TABLE reviews (
	id         {{.Blob}} PRIMARY KEY,
	slot       {{.Int}} NOT NULL,
	path       {{.Text}} NOT NULL,
	here       {{.Int}} NOT NULL, -- only what was given at this very scope
	period     {{.Text}} NOT NULL, -- of a scheduled one, such as 2026-Q4
	state      {{.Text}} NOT NULL,
	started_at {{.Int}} NOT NULL,
	started_by {{.Blob}} NOT NULL,
	deadline   {{.Int}} NOT NULL,
	ended_at   {{.Int}} NOT NULL,
	ended_by   {{.Blob}} NOT NULL,
	items      {{.Int}} NOT NULL,
	digest     {{.Blob}} NOT NULL -- of the decisions, once it has ended
){{.End}};
CREATE INDEX reviews_started ON reviews (started_at, id);
CREATE INDEX reviews_state ON reviews (state, deadline);
CREATE INDEX reviews_period ON reviews (period, path);

CREATE TABLE review_items (
	review      {{.Blob}} NOT NULL REFERENCES reviews (id),
	number      {{.Int}} NOT NULL,
	kind        {{.Text}} NOT NULL,
	access      {{.Blob}} NOT NULL, -- the grant or the assignment
	principal   {{.Blob}} NOT NULL REFERENCES principals (id),
	role        {{.Text}} NOT NULL,
	path        {{.Text}} NOT NULL,
	shards      {{.Text}} NOT NULL,
	since       {{.Int}} NOT NULL,
	until       {{.Int}} NOT NULL,
	by_whom     {{.Blob}} NOT NULL,
	last_use    {{.Int}} NOT NULL,
	findings    {{.Text}} NOT NULL,
	decision    {{.Text}} NOT NULL,
	decided_at  {{.Int}} NOT NULL,
	decided_by  {{.Blob}} NOT NULL,
	PRIMARY KEY (review, number)
){{.End}};
