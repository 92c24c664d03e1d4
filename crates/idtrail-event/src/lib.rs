//! The audit event: model, validation, keyed hashing, CBOR and the sealed leaf
