-- The ways of delivery that a project allows besides sealed, as a JSON array.
ALTER TABLE projects ADD COLUMN delivery {{.Text}} NOT NULL DEFAULT '[]';
