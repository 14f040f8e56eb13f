-- Until when signatures of older versions count beside this one; 0: not from its
-- publication on.
ALTER TABLE agreements ADD COLUMN grace {{.Int}} NOT NULL DEFAULT 0;

-- The region in whose object store a dataset's objects are; empty: the one
-- without a name.
ALTER TABLE datasets ADD COLUMN store {{.Text}} NOT NULL DEFAULT '';

-- What the vault, a client or a project asks of those who read there. Lists are
-- JSON arrays; contractor_max is in microseconds, 0 for no limit.
CREATE TABLE conditions (
	slot                {{.Int}} PRIMARY KEY REFERENCES scopes (slot),
	path                {{.Text}} NOT NULL UNIQUE REFERENCES scopes (path),
	requires            {{.Text}} NOT NULL,
	contractor_max      {{.Int}} NOT NULL,
	contractor_delivery {{.Text}} NOT NULL,
	hours               {{.Text}} NOT NULL,
	networks            {{.Text}} NOT NULL,
	transfers           {{.Text}} NOT NULL,
	revision            {{.Int}} NOT NULL
){{.End}};
CREATE INDEX conditions_revision ON conditions (revision);

-- The one agreement that a project could name is one of its conditions now.
INSERT INTO conditions (slot, path, requires, contractor_max, contractor_delivery, hours, networks, transfers, revision)
	SELECT slot, path, '["' || agreement || '"]', 0, '[]', '[]', '[]', '[]', revision FROM projects WHERE agreement <> '';
ALTER TABLE projects DROP COLUMN agreement;
