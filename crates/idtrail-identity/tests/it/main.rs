//! Tests of identity resolution at the crate's boundary. `histories` makes random histories; `invariants` checks on
//! them what must always hold; `scenarios` are stories with a known end; `accuracy` compares with simpler policies.

#[cfg(test)]
#[allow(dead_code, reason = "the example prints more than the test compares")]
mod accuracy;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod normal_forms;
mod numbered;
mod rotation;
#[cfg(test)]
mod scenarios;
