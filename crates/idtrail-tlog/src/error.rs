//! What a caller must do about an error.

/// The few kinds of error of this crate; every error enum has a `kind()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input does not have the form that it should have: correct it.
    Invalid,
    /// Nothing is known with which the check could be made, such as the key of a log: supply it.
    NotFound,
    /// All that was checked is right, but the policy asks for more, such as more witnesses.
    Denied,
    /// A tile could not be read: try again.
    Unavailable,
    /// Bytes differ from those that were hashed or signed: distrust them.
    Damaged,
}
