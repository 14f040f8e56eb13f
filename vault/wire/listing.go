package wire

// A listing is a file with records of the log, for auditors.
// GET /v1/log/listing?under=&format=jsonl|csv and the filters of /v1/log gives
// it. What is signed of it, an audit.Listing, follows the body as the trailer
// HeaderListing, in base64.
const (
	FormatJSONL = "jsonl" // a Record on each line
	FormatCSV   = "csv"   // RFC 4180, with a header: ListingColumns

	HeaderListing = "Dsvault-Listing" // trailer of the answer: the signed note, base64
)

// ListingColumns are the columns of a listing in CSV. Detail is JSON.
var ListingColumns = []string{"index", "time", "actor", "kind", "decision", "object", "reason", "slot", "hash", "detail"}
