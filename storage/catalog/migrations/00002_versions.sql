-- A version of a dataset is an ordered list of its shards, as text such as
-- 0-4,10,6-9. Versions are numbered 1, 2, … and never change.
CREATE TABLE versions (
	dataset      {{.Blob}} NOT NULL REFERENCES datasets (id),
	version      {{.Int}} NOT NULL CHECK (version > 0),
	shards       {{.Text}} NOT NULL,
	plain_size   {{.Int}} NOT NULL,
	sealed_size  {{.Int}} NOT NULL,
	completed_at {{.Int}} NOT NULL,
	completed_by {{.Blob}} NOT NULL,
	PRIMARY KEY (dataset, version)
){{.End}};

-- version: the newest one, 0 for none. push: how many pushes have begun.
ALTER TABLE datasets ADD COLUMN version {{.Int}} NOT NULL DEFAULT 0;
ALTER TABLE datasets ADD COLUMN push {{.Int}} NOT NULL DEFAULT 0;

-- version: the first one that has the shard, 0 for none. start: what the shard
-- begins with, as a keyed hash. index_*: the object that lists its members.
ALTER TABLE shards ADD COLUMN version {{.Int}} NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN start {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};
ALTER TABLE shards ADD COLUMN index_etag {{.Text}} NOT NULL DEFAULT '';
ALTER TABLE shards ADD COLUMN index_size {{.Int}} NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN index_sha256 {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};
ALTER TABLE shards ADD COLUMN index_header {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};
CREATE INDEX shards_spare ON shards (dataset, number) WHERE version = 0;

ALTER TABLE attempts ADD COLUMN push {{.Int}} NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN start {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};
ALTER TABLE attempts ADD COLUMN index_etag {{.Text}} NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN index_size {{.Int}} NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN index_sha256 {{.Blob}} NOT NULL DEFAULT {{.NoBytes}};

-- What was complete before is version 1.
INSERT INTO versions (dataset, version, shards, plain_size, sealed_size, completed_at, completed_by)
	SELECT d.id, 1, CASE WHEN d.shards = 1 THEN '0' ELSE '0-' || CAST(d.shards - 1 AS text) END,
		CAST(SUM(s.plain_size) AS bigint), CAST(SUM(s.sealed_size) AS bigint), MAX(s.committed_at), d.created_by
	FROM datasets d JOIN shards s ON s.dataset = d.id WHERE d.complete = 1 GROUP BY d.id, d.shards, d.created_by;
UPDATE datasets SET version = 1 WHERE complete = 1;
UPDATE shards SET version = 1 WHERE dataset IN (SELECT id FROM datasets WHERE complete = 1);
