//! Tests of identity resolution at the crate's boundary. `histories` makes random histories; `invariants` checks on
//! them what must always hold.

#[cfg(test)]
mod histories;
#[cfg(test)]
mod invariants;
