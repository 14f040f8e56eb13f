-- By which keyed hash of an e-mail address somebody is found. Two people may have
-- one address.
CREATE TABLE addresses (
	principal {{.Blob}} PRIMARY KEY REFERENCES principals (id),
	hash      {{.Blob}} NOT NULL
){{.End}};
CREATE INDEX addresses_hash ON addresses (hash);
{{.Unsampled "addresses" "hash"}}

-- Mails and webhook calls that are to be sent, and what became of them. content
-- is sealed, and empty once nothing more is to be sent. path is the client that a
-- notice is for, principal the person that a mail is for: empty, and 16 zero
-- bytes, for none.
CREATE TABLE outbox (
	id         {{.Blob}} PRIMARY KEY,
	path       {{.Text}} NOT NULL,
	principal  {{.Blob}} NOT NULL,
	channel    {{.Text}} NOT NULL,
	event      {{.Text}} NOT NULL,
	content    {{.Blob}} NOT NULL,
	created_at {{.Int}} NOT NULL,
	due        {{.Int}} NOT NULL,
	until      {{.Int}} NOT NULL,
	state      {{.Text}} NOT NULL,
	attempts   {{.Int}} NOT NULL,
	tried_at   {{.Int}} NOT NULL,
	problem    {{.Text}} NOT NULL
){{.End}};
CREATE INDEX outbox_due ON outbox (state, due);
CREATE INDEX outbox_path ON outbox (path, created_at, id);
CREATE INDEX outbox_principal ON outbox (principal);

-- Which events a client hears of, and where: settings are sealed.
CREATE TABLE notices (
	path       {{.Text}} PRIMARY KEY REFERENCES scopes (path),
	events     {{.Text}} NOT NULL,
	settings   {{.Blob}} NOT NULL,
	changed_at {{.Int}} NOT NULL,
	changed_by {{.Blob}} NOT NULL
){{.End}};

-- The purposes for which data of a project has been read.
CREATE TABLE known_purposes (
	path    {{.Text}} NOT NULL REFERENCES scopes (path),
	purpose {{.Text}} NOT NULL,
	read_at {{.Int}} NOT NULL,
	PRIMARY KEY (path, purpose)
){{.EndKeyed}};
