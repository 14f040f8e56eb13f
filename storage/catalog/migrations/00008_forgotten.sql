-- People who were anonymised, and what is still to be cleared away of them.
CREATE TABLE forgotten (
	principal {{.Blob}} PRIMARY KEY REFERENCES principals (id),
	at        {{.Int}} NOT NULL,
	about     {{.Blob}} NOT NULL, -- indexes of other people's records about them, 8 bytes each
	done      {{.Int}} NOT NULL
){{.End}};
{{.Unsampled "principals" "handle"}}
{{.Unsampled "principals" "region"}}
{{.Unsampled "devices" "name"}}
{{.Unsampled "grants" "reason"}}
