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
// # Rules between leaves
//
// A Verifier checks these, and names the one that fails:
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
//	size, root      the leaves are those of the checkpoint
//
// Proofs are those of RFC 6962: CheckInclusion checks that a leaf is in the log
// of a checkpoint, CheckConsistency that one log begins with another.
package audit
