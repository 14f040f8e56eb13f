-- restricted: since when the processing of a person's data is restricted, 0 for not.
ALTER TABLE principals ADD COLUMN restricted {{.Int}} NOT NULL DEFAULT 0;

-- The purposes of a project that rest on its readers' consent, as a JSON array.
ALTER TABLE projects ADD COLUMN consent {{.Text}} NOT NULL DEFAULT '[]';

-- Consents to purposes, and objections to them.
CREATE TABLE choices (
	principal {{.Blob}} NOT NULL REFERENCES principals (id),
	kind      {{.Text}} NOT NULL,
	purpose   {{.Text}} NOT NULL,
	at        {{.Int}} NOT NULL,
	ended     {{.Int}} NOT NULL,
	revision  {{.Int}} NOT NULL,
	PRIMARY KEY (principal, kind, purpose)
){{.End}};
CREATE INDEX choices_revision ON choices (revision);

-- The register of requests. received is the first moment of the day, due the
-- first one after the deadline. words are sealed under the person's key.
CREATE TABLE rights_requests (
	id             {{.Blob}} PRIMARY KEY,
	principal      {{.Blob}} NOT NULL REFERENCES principals (id),
	kind           {{.Text}} NOT NULL,
	identity_check {{.Text}} NOT NULL,
	received       {{.Int}} NOT NULL,
	due            {{.Int}} NOT NULL,
	extended       {{.Int}} NOT NULL,
	opened_at      {{.Int}} NOT NULL,
	opened_by      {{.Blob}} NOT NULL,
	closed_at      {{.Int}} NOT NULL,
	closed_by      {{.Blob}} NOT NULL,
	outcome        {{.Text}} NOT NULL,
	handed_at      {{.Int}} NOT NULL,
	words          {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX rights_requests_principal ON rights_requests (principal, id);
CREATE INDEX rights_requests_open ON rights_requests (due) WHERE closed_at = 0;
