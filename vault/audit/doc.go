// Package audit is the format of dsvault's audit log and its offline
// verification: leaves, the Merkle tree over them, checkpoints, and the checks
// that somebody who trusts neither vault nor operator can run. It does no I/O.
//
// # Leaf
//
// A leaf is one record. Its encoding is fixed for good, and there is exactly one
// for each record. Numbers are unsigned and big-endian. With r bytes of reason
// and e bytes of extension:
//
//	offset  bytes  what
//	     0      1  15, the length of the label
//	     1     15  the label "dsvault/leaf/v1" in ASCII
//	    16      2  kind (the Kind constants)
//	    18      8  time in microseconds since 1970-01-01T00:00:00Z, below 2^63
//	    26      8  policy revision
//	    34      8  slot: the permanent number of the scope; 0 is the vault
//	    42     16  tag of the slot: random, the same in all its leaves
//	    58      8  sequence number in the slot: 1, 2, …
//	    66     32  leaf hash of the slot's previous leaf; zeros in its first
//	    98     16  actor tag
//	   114     16  request ID
//	   130      1  object: kind (the ObjectKind constants)
//	   131     16  object: ID
//	   147      4  object: number; the shard's, an agreement's version, else 0
//	   151      1  decision: 0 none, 1 allowed, 2 refused
//	   152     32  commitment to personal details; zeros for none
//	   184      2  r, at most 512
//	   186      r  reason: bytes 0x20 to 0x7e only
//	 186+r      2  e, at most 4096
//	 188+r      e  extension
//
// Nothing follows. The extension is 0 to 32 fields one after the other, their
// IDs strictly ascending:
//
//	offset  bytes  what
//	     0      2  field ID (the FieldID constants)
//	     2      2  n
//	     4      n  value
//
// The value of a known field is a number (8 bytes), text (UTF-8 without control
// characters, Unicode category Cc), an ID (16 bytes), a hash (32 bytes) or any
// bytes, as the comment at its constant says. Kinds, object kinds and field IDs
// that a reader does not know are accepted, with any value; a decision above 2
// is not. A decoder refuses every input that is not of this form. The longest
// leaf has 4796 bytes, which C2SP tlog-tiles entry bundles can hold.
//
// # Hashes
//
// The log is a Merkle tree as of RFC 6962 with SHA-256:
//
//	leaf hash  = SHA-256(0x00 || leaf)
//	inner node = SHA-256(0x01 || left || right)
//	empty tree = SHA-256("")
//
// Leaf i of the tree is the record of index i, from 0.
//
// # Personal details
//
// No name, address or client's word is in a leaf. What it holds instead can be
// forgotten by destroying a key or a salt, and the proofs stay good:
//
//	commitment = HMAC-SHA256(key: 32-byte salt, "dsvault/details/v1" || 0x00 || details)
//	actor tag  = first 16 bytes of
//	             HMAC-SHA256(key: 32-byte key of the person, "dsvault/actor/v1" || 0x00 || slot tag)
//
// # Checkpoint
//
// A checkpoint is a C2SP tlog-checkpoint: a C2SP signed-note, with an Ed25519
// signature, whose text is three lines: origin; size in decimal; root hash in
// standard base64. Further lines are extensions, which are passed over.
//
// # Statement
//
// A statement is a leaf of kind statement in slot 0. It commits to the state of
// every slot as of just before itself: the leaves of lower index. With n one more
// than the highest slot that has a leaf, its extension holds n (array-length) and
// the root (array-root) of an RFC 6962 tree, with the hashes above, whose leaf
// number i, for i from 0 to n-1, is what is said of slot i:
//
//	offset  bytes  what
//	     0      1  15, the length of the label
//	     1     15  the label "dsvault/slot/v1" in ASCII
//	    16     16  tag of the slot
//	    32      8  number of its leaves
//	    40      8  index of its last leaf in the log
//	    48     32  leaf hash of its last leaf
//
// Of a slot below n without leaves all but the label is zero. n is at most the
// statement's index. The label keeps these leaves apart from the log's.
//
// The last leaf names the one before it, and so on to the first: who has the
// entry of a slot, with its proof, and as many leaves as it counts, has all of
// them.
//
// # Promise and receipt
//
// A promise that the log holds a leaf is a C2SP signed-note by the log's key,
// whose text is four lines:
//
//	dsvault/receipt/v1
//	log ORIGIN
//	leaf INDEX
//	LEAF HASH in standard base64
//
// A Receipt holds it, with the leaf, as JSON. A reader gets one before the first
// byte of data. Once there is a checkpoint of more than INDEX leaves, the proof of
// inclusion can be added.
//
// # Listing
//
// Of a file with records that the log has written for somebody it signs a C2SP
// signed-note of ten lines:
//
//	dsvault/listing/v1
//	log ORIGIN
//	time of the look, RFC 3339 in UTC, to the second
//	query what was asked for, as a URL's query in the order of its names
//	format jsonl or csv
//	before INDEX, below which records were looked at
//	records how many there are in the file
//	bytes how many the file has
//	sha256 of the file, in hexadecimal
//	checkpoint SIZE ROOT, the root in standard base64
//
// each with one space between its name and its value; query alone may have
// none. It says who gave the file, and that it is unchanged. It proves nothing
// about the log: that is what a bundle does.
//
// # Certificate
//
// A certificate says that data was erased. It is JSON with what was erased, two
// leaves with their proofs of inclusion in a signed checkpoint (the keys were
// destroyed; nothing was left), and a C2SP signed-note of three lines:
//
//	dsvault/certificate/v1
//	log ORIGIN
//	sha256 of what was erased, as JSON without space between its parts, in hexadecimal
//
// The last leaf repeats its numbers, and both name the erasure.
//
// # Bundle
//
// A bundle is what somebody needs to verify the log without the vault: a file or
// a stream. It begins with the line "dsvault bundle v1". Parts follow, each of
// one byte that says which, four bytes of length, and so many bytes:
//
//	H  header: BundleHeader as JSON
//	C  checkpoint: a signed note
//	K  consistency, at most once: 8 bytes size of the older log; path
//	S  statement, unless the log is whole: 8 bytes index; 2 bytes length, leaf; path
//	E  entry of a slot, ascending, none if the log is whole: 8 bytes slot; entry; path
//	R  record, ascending: 8 bytes index; 2 bytes length, leaf; 1 byte 0 or 32, salt;
//	   the rest is the details, none without a salt
//	Z  end: 8 bytes number of records
//
// in this order. A path is 2 bytes of length and so many bytes of hashes of 32
// bytes, as RFC 6962 orders them. Nothing follows the end. A bundle is whole if
// it holds every leaf of the checkpoint. Otherwise it holds the leaves before the
// statement of the slots that it has entries of: all of each. The index of the
// last leaf of each slot is stated, and so is that of each read which ended; the
// others stand in order, at the index that the vault says.
//
// # Rules between leaves
//
// A Verifier checks these, and names the one that fails. statement is checked
// where all leaves are there:
//
//	leaf-order      leaves come in index order
//	leaf-format     each is in the encoding above
//	time-order      time never goes back; equal times are fine
//	revision-order  nor does the policy revision
//	slot-tag        a slot keeps its tag, and no two slots share one
//	slot-sequence   the leaves of a slot are numbered 1, 2, …
//	slot-chain      each names the hash of the one before it in its slot
//	slot-dataset    allowed leaves of the kinds read, read-end, upload, upload-end,
//	                dataset-create and dataset-complete whose object is a dataset or
//	                shard: one dataset in one slot, and one slot for one dataset
//	read-end        its ref-index is the index of an earlier read, which was not
//	                refused, in the same slot
//	read-end-twice  no read ends twice
//	details         personal details, where they are shown, are those committed to
//	statement       a statement says what the leaves before it are
//	size, root      the leaves are those of the checkpoint
//
// Proofs are those of RFC 6962: CheckInclusion checks that a leaf is in the log
// of a checkpoint, CheckConsistency that one log begins with another.
//
// VerifyBundle checks besides:
//
//	bundle-format         the bundle is in the form above
//	checkpoint-signature  the checkpoint is signed by the log's key
//	checkpoint-origin     and is of this log
//	known                 it continues the log that was verified earlier
//	inclusion             the statement is in the log of the checkpoint
//	statement-slot        what is shown of a slot was stated, and its leaves are so
//	fresh                 the bundle is not older than the request for it
//	receipt               no leaf is left out of which there is a receipt
package audit
