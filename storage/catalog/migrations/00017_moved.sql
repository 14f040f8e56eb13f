-- What `storage migrate` has put into another object store, and verified there,
-- until the vault is switched to it.
CREATE TABLE moved (
	object {{.Text}} PRIMARY KEY,
	etag   {{.Text}} NOT NULL, -- in the new store
	size   {{.Int}} NOT NULL
){{.End}};
