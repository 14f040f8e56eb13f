// Package seal makes and opens age v1 files (C2SP age specification) for
// hybrid post-quantum keys and for nothing else. It seals, opens, opens at a
// range, checks the end of a file, and re-wraps a header so that the same
// ciphertext opens with another key. It does no I/O beyond readers and writers.
//
// A sealed file is a header (who can open it) and a payload: a 16-byte nonce
// and then chunks of up to 64 KiB of plaintext, each with a 16-byte tag.
//
// Every key and every stanza is of age's mlkem768x25519 type. A file that is
// also sealed to a classic key, a passphrase or an unknown kind of key is
// refused, because its weakest stanza decides how safe it is.
package seal
