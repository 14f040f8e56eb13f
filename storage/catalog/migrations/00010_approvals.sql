-- approved_by: the second person, where there was one.
ALTER TABLE grants ADD COLUMN approved_by {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};
ALTER TABLE assignments ADD COLUMN approved_by {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};

-- What one person asks for and another has to approve. terms_hash names the
-- terms, which are sealed under the requester's key. revision is 0 until
-- somebody has approved: decisions do not rest on it before.
CREATE TABLE approvals (
	id           {{.Blob}} PRIMARY KEY,
	requester    {{.Blob}} NOT NULL REFERENCES principals (id),
	action       {{.Text}} NOT NULL,
	kind         {{.Text}} NOT NULL,
	path         {{.Text}} NOT NULL,
	target       {{.Blob}} NOT NULL,
	terms_hash   {{.Blob}} NOT NULL,
	terms        {{.Blob}} NOT NULL,
	withheld     {{.Int}} NOT NULL,
	state        {{.Text}} NOT NULL,
	requested_at {{.Int}} NOT NULL,
	expires      {{.Int}} NOT NULL,
	decided_at   {{.Int}} NOT NULL,
	decided_by   {{.Blob}} NOT NULL,
	until        {{.Int}} NOT NULL,
	used_at      {{.Int}} NOT NULL,
	revision     {{.Int}} NOT NULL
){{.End}};
CREATE INDEX approvals_requested ON approvals (requested_at, id);
CREATE INDEX approvals_state ON approvals (state, requested_at, id);
CREATE INDEX approvals_asked ON approvals (requester, path);
CREATE INDEX approvals_revision ON approvals (revision);

-- Breaking the glass: an admin reads in an emergency without a second person,
-- and another admin reviews that. Words are sealed under the key of who wrote
-- them.
CREATE TABLE break_glass (
	id          {{.Blob}} PRIMARY KEY,
	principal   {{.Blob}} NOT NULL REFERENCES principals (id),
	path        {{.Text}} NOT NULL,
	reason      {{.Blob}} NOT NULL,
	at          {{.Int}} NOT NULL,
	until       {{.Int}} NOT NULL,
	ended       {{.Int}} NOT NULL,
	reviewed_at {{.Int}} NOT NULL,
	reviewed_by {{.Blob}} NOT NULL,
	verdict     {{.Text}} NOT NULL,
	comment     {{.Blob}} NOT NULL,
	revision    {{.Int}} NOT NULL
){{.End}};
CREATE INDEX break_glass_at ON break_glass (at, id);
CREATE INDEX break_glass_revision ON break_glass (revision);

-- Disclosures that a law requires, once two people have agreed. terms are sealed
-- under the reader's key. withheld: until when their records are not explained
-- to the client.
CREATE TABLE disclosures (
	id          {{.Blob}} PRIMARY KEY,
	principal   {{.Blob}} NOT NULL REFERENCES principals (id),
	dataset     {{.Blob}} NOT NULL REFERENCES datasets (id),
	path        {{.Text}} NOT NULL,
	shards      {{.Text}} NOT NULL,
	document    {{.Blob}} NOT NULL,
	terms       {{.Blob}} NOT NULL,
	withheld    {{.Int}} NOT NULL,
	at          {{.Int}} NOT NULL,
	until       {{.Int}} NOT NULL,
	ended       {{.Int}} NOT NULL,
	approved_by {{.Blob}} NOT NULL,
	revision    {{.Int}} NOT NULL
){{.End}};
CREATE INDEX disclosures_reader ON disclosures (principal, dataset);
CREATE INDEX disclosures_revision ON disclosures (revision);
