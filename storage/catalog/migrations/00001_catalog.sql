-- Times are Unix microseconds, 0 for none. IDs are 16 bytes. Booleans are 0 or 1.
-- Revision columns carry the policy revision of the row's last change.

CREATE TABLE head (
	one       {{.Int}} PRIMARY KEY CHECK (one = 1),
	size      {{.Int}} NOT NULL,
	frontier  {{.Blob}} NOT NULL,
	revision  {{.Int}} NOT NULL,
	time      {{.Int}} NOT NULL,
	next_slot {{.Int}} NOT NULL
){{.End}};
INSERT INTO head (one, size, frontier, revision, time, next_slot) VALUES (1, 0, {{.NoBytes}}, 0, 0, 1);

CREATE TABLE leaves (
	idx      {{.Int}} PRIMARY KEY,
	slot     {{.Int}} NOT NULL,
	kind     {{.Int}} NOT NULL,
	decision {{.Int}} NOT NULL,
	time     {{.Int}} NOT NULL,
	data     {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX leaves_slot ON leaves (slot, idx);

CREATE TABLE details (
	idx       {{.Int}} PRIMARY KEY,
	principal {{.Blob}} NOT NULL,
	sealed    {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX details_principal ON details (principal, idx);

CREATE TABLE chains (
	slot       {{.Int}} PRIMARY KEY,
	seq        {{.Int}} NOT NULL,
	last_index {{.Int}} NOT NULL,
	last_hash  {{.Blob}} NOT NULL
){{.End}};

CREATE TABLE open_reads (
	idx       {{.Int}} PRIMARY KEY,
	slot      {{.Int}} NOT NULL,
	dataset   {{.Blob}} NOT NULL,
	shard     {{.Int}} NOT NULL,
	principal {{.Blob}} NOT NULL,
	max_bytes {{.Int}} NOT NULL,
	time      {{.Int}} NOT NULL,
	node      {{.Text}} NOT NULL
){{.End}};

CREATE TABLE scopes (
	slot       {{.Int}} PRIMARY KEY,
	path       {{.Text}} NOT NULL UNIQUE,
	tag        {{.Blob}} NOT NULL UNIQUE,
	created_at {{.Int}} NOT NULL,
	created_by {{.Blob}} NOT NULL,
	UNIQUE (slot, path, tag)
){{.End}};

CREATE TABLE projects (
	slot      {{.Int}} PRIMARY KEY REFERENCES scopes (slot),
	path      {{.Text}} NOT NULL UNIQUE REFERENCES scopes (path),
	purposes  {{.Text}} NOT NULL,
	region    {{.Text}} NOT NULL,
	sensitive {{.Int}} NOT NULL,
	agreement {{.Text}} NOT NULL,
	contract  {{.Text}} NOT NULL,
	revision  {{.Int}} NOT NULL
){{.End}};
CREATE INDEX projects_revision ON projects (revision);

CREATE TABLE datasets (
	id         {{.Blob}} PRIMARY KEY,
	slot       {{.Int}} NOT NULL UNIQUE,
	path       {{.Text}} NOT NULL UNIQUE,
	tag        {{.Blob}} NOT NULL,
	state      {{.Text}} NOT NULL,
	recipient  {{.Text}} NOT NULL,
	salt       {{.Blob}} NOT NULL,
	complete   {{.Int}} NOT NULL,
	shards     {{.Int}} NOT NULL,
	revision   {{.Int}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	created_by {{.Blob}} NOT NULL,
	FOREIGN KEY (slot, path, tag) REFERENCES scopes (slot, path, tag)
){{.End}};
CREATE INDEX datasets_revision ON datasets (revision);

CREATE TABLE dataset_keys (
	dataset {{.Blob}} PRIMARY KEY REFERENCES datasets (id),
	epoch   {{.Int}} NOT NULL,
	sealed  {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX dataset_keys_epoch ON dataset_keys (epoch);

CREATE TABLE attempts (
	id          {{.Blob}} PRIMARY KEY,
	dataset     {{.Blob}} NOT NULL REFERENCES datasets (id),
	number      {{.Int}} NOT NULL,
	object      {{.Text}} NOT NULL UNIQUE,
	plain_size  {{.Int}} NOT NULL,
	fingerprint {{.Blob}} NOT NULL,
	etag        {{.Text}} NOT NULL,
	sealed_size {{.Int}} NOT NULL,
	sha256      {{.Blob}} NOT NULL,
	started_at  {{.Int}} NOT NULL,
	started_by  {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX attempts_started ON attempts (started_at, id);

CREATE TABLE shards (
	dataset      {{.Blob}} NOT NULL REFERENCES datasets (id),
	number       {{.Int}} NOT NULL,
	attempt      {{.Blob}} NOT NULL UNIQUE,
	object       {{.Text}} NOT NULL UNIQUE,
	etag         {{.Text}} NOT NULL,
	sealed_size  {{.Int}} NOT NULL,
	plain_size   {{.Int}} NOT NULL,
	sha256       {{.Blob}} NOT NULL,
	header       {{.Blob}} NOT NULL,
	nonce        {{.Blob}} NOT NULL,
	fingerprint  {{.Blob}} NOT NULL,
	manifest     {{.Blob}} NOT NULL,
	committed_at {{.Int}} NOT NULL,
	committed_by {{.Blob}} NOT NULL,
	PRIMARY KEY (dataset, number)
){{.End}};

-- Every payload nonce that was ever committed. Rows are never removed, not even
-- with their shard: a nonce that comes back would let the vault be used to open
-- ciphertext that somebody else holds.
CREATE TABLE nonces (
	nonce {{.Blob}} PRIMARY KEY
){{.End}};

CREATE TABLE principals (
	id         {{.Blob}} PRIMARY KEY,
	handle     {{.Text}} NOT NULL UNIQUE,
	service    {{.Int}} NOT NULL,
	disabled   {{.Int}} NOT NULL,
	region     {{.Text}} NOT NULL,
	key_epoch  {{.Int}} NOT NULL,
	key_sealed {{.Blob}} NOT NULL,
	profile    {{.Blob}} NOT NULL,
	revision   {{.Int}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	created_by {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX principals_revision ON principals (revision);

CREATE TABLE tokens (
	id         {{.Blob}} PRIMARY KEY,
	hash       {{.Blob}} NOT NULL UNIQUE,
	principal  {{.Blob}} NOT NULL REFERENCES principals (id),
	kind       {{.Text}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	expires    {{.Int}} NOT NULL,
	ended      {{.Int}} NOT NULL
){{.End}};
CREATE INDEX tokens_principal ON tokens (principal);

CREATE TABLE devices (
	id         {{.Blob}} PRIMARY KEY,
	principal  {{.Blob}} NOT NULL REFERENCES principals (id),
	recipient  {{.Text}} NOT NULL,
	name       {{.Text}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	removed    {{.Int}} NOT NULL
){{.End}};
CREATE INDEX devices_principal ON devices (principal);

CREATE TABLE agreements (
	name       {{.Text}} NOT NULL,
	version    {{.Int}} NOT NULL CHECK (version > 0),
	hash       {{.Blob}} NOT NULL,
	text       {{.Blob}} NOT NULL,
	created_by {{.Blob}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	revision   {{.Int}} NOT NULL,
	PRIMARY KEY (name, version)
){{.End}};
CREATE INDEX agreements_revision ON agreements (revision);

CREATE TABLE signatures (
	principal {{.Blob}} NOT NULL REFERENCES principals (id),
	agreement {{.Text}} NOT NULL,
	version   {{.Int}} NOT NULL,
	hash      {{.Blob}} NOT NULL,
	signed_at {{.Int}} NOT NULL,
	until     {{.Int}} NOT NULL,
	withdrawn {{.Int}} NOT NULL,
	revision  {{.Int}} NOT NULL,
	PRIMARY KEY (principal, agreement, version),
	FOREIGN KEY (agreement, version) REFERENCES agreements (name, version)
){{.End}};
CREATE INDEX signatures_revision ON signatures (revision);

CREATE TABLE grants (
	id        {{.Blob}} PRIMARY KEY,
	principal {{.Blob}} NOT NULL REFERENCES principals (id),
	role      {{.Text}} NOT NULL,
	path      {{.Text}} NOT NULL,
	until     {{.Int}} NOT NULL,
	reason    {{.Text}} NOT NULL,
	by_whom   {{.Blob}} NOT NULL,
	at        {{.Int}} NOT NULL,
	ended     {{.Int}} NOT NULL,
	revision  {{.Int}} NOT NULL
){{.End}};
CREATE INDEX grants_revision ON grants (revision);
CREATE INDEX grants_principal ON grants (principal, path);
CREATE INDEX grants_path ON grants (path);
CREATE INDEX grants_at ON grants (at, id);

CREATE TABLE assignments (
	id        {{.Blob}} PRIMARY KEY,
	principal {{.Blob}} NOT NULL REFERENCES principals (id),
	dataset   {{.Blob}} NOT NULL REFERENCES datasets (id),
	path      {{.Text}} NOT NULL,
	shards    {{.Text}} NOT NULL,
	until     {{.Int}} NOT NULL,
	by_whom   {{.Blob}} NOT NULL,
	at        {{.Int}} NOT NULL,
	ended     {{.Int}} NOT NULL,
	revision  {{.Int}} NOT NULL
){{.End}};
CREATE INDEX assignments_revision ON assignments (revision);
CREATE INDEX assignments_principal ON assignments (principal, dataset);
CREATE INDEX assignments_path ON assignments (path);
CREATE INDEX assignments_at ON assignments (at, id);

CREATE TABLE meta (
	name  {{.Text}} PRIMARY KEY,
	value {{.Blob}} NOT NULL
){{.End}};
