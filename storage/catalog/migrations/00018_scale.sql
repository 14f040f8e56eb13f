-- Pages of what is in force: of all, oldest first; of a scope, in the order of
-- their paths; of a person. What has ended is in none of these indexes.
DROP INDEX grants_at;
DROP INDEX grants_path;
CREATE INDEX grants_time ON grants (at, id) WHERE ended = 0;
CREATE INDEX grants_place ON grants (path, at, id) WHERE ended = 0;

DROP INDEX assignments_at;
DROP INDEX assignments_path;
CREATE INDEX assignments_time ON assignments (at, id) WHERE ended = 0;
CREATE INDEX assignments_place ON assignments (path, at, id) WHERE ended = 0;
CREATE INDEX assignments_own ON assignments (principal, at, id) WHERE ended = 0;

CREATE INDEX break_glass_principal ON break_glass (principal);
