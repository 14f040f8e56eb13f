-- Legal holds, in force while released is 0.
CREATE TABLE holds (
	id          {{.Blob}} PRIMARY KEY,
	path        {{.Text}} NOT NULL REFERENCES scopes (path),
	reason      {{.Text}} NOT NULL,
	at          {{.Int}} NOT NULL,
	by_whom     {{.Blob}} NOT NULL,
	released    {{.Int}} NOT NULL,
	released_by {{.Blob}} NOT NULL,
	revision    {{.Int}} NOT NULL
){{.End}};
CREATE INDEX holds_revision ON holds (revision);
CREATE INDEX holds_path ON holds (path);

-- Erasures: all that one needs to go on after an interruption is in its rows.
-- epoch is the newest that a destroyed key was sealed to.
CREATE TABLE erasures (
	id         {{.Blob}} PRIMARY KEY,
	slot       {{.Int}} NOT NULL,
	path       {{.Text}} NOT NULL REFERENCES scopes (path),
	cause      {{.Text}} NOT NULL,
	basis      {{.Text}} NOT NULL,
	reason     {{.Text}} NOT NULL,
	finished   {{.Int}} NOT NULL,
	problem    {{.Text}} NOT NULL,
	started_at {{.Int}} NOT NULL,
	started_by {{.Blob}} NOT NULL,
	second     {{.Blob}} NOT NULL,
	start_idx  {{.Int}} NOT NULL,
	settled_at {{.Int}} NOT NULL,
	epoch      {{.Int}} NOT NULL,
	final_at   {{.Int}} NOT NULL,
	ended_at   {{.Int}} NOT NULL,
	end_idx    {{.Int}} NOT NULL
){{.End}};
CREATE INDEX erasures_path ON erasures (path);
CREATE INDEX erasures_finished ON erasures (finished, started_at, id);

-- The datasets of an erasure, and what was found of each in the object store.
-- stage: 0 all is there, 1 counted, 2 nothing is left.
CREATE TABLE erased_datasets (
	dataset  {{.Blob}} NOT NULL REFERENCES datasets (id),
	erasure  {{.Blob}} NOT NULL REFERENCES erasures (id),
	path     {{.Text}} NOT NULL,
	stage    {{.Int}} NOT NULL,
	objects  {{.Int}} NOT NULL,
	versions {{.Int}} NOT NULL,
	markers  {{.Int}} NOT NULL,
	uploads  {{.Int}} NOT NULL,
	bytes    {{.Int}} NOT NULL,
	PRIMARY KEY (erasure, dataset)
){{.End}};

-- How long data, log details and personal data are kept, at a scope and below
-- until a nearer one says otherwise; an empty period says nothing. done: leaves
-- of the log below it are done.
CREATE TABLE retentions (
	path     {{.Text}} NOT NULL REFERENCES scopes (path),
	what     {{.Text}} NOT NULL,
	period   {{.Text}} NOT NULL,
	basis    {{.Text}} NOT NULL,
	set_at   {{.Int}} NOT NULL,
	set_by   {{.Blob}} NOT NULL,
	done     {{.Int}} NOT NULL,
	revision {{.Int}} NOT NULL,
	PRIMARY KEY (path, what)
){{.End}};
CREATE INDEX retentions_revision ON retentions (revision);

-- Datasets whose coming expiry was announced, and for which moment.
CREATE TABLE warnings (
	dataset {{.Blob}} PRIMARY KEY REFERENCES datasets (id),
	due     {{.Int}} NOT NULL
){{.End}};

-- filled_at: when its newest version was completed, from when on its retention
-- counts; 0: it counts from created_at.
ALTER TABLE datasets ADD COLUMN filled_at {{.Int}} NOT NULL DEFAULT 0;
UPDATE datasets SET filled_at = COALESCE((SELECT v.completed_at FROM versions v
	WHERE v.dataset = datasets.id AND v.version = datasets.version), 0);
