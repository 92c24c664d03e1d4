//! The server from outside: real sockets, real files, the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "test code runs the real program in the real world, and must fail where it meets the unexpected"
)]

mod access;
mod access_log;
mod after_restore;
mod authorisation;
mod bad_input;
mod canary;
mod cluster;
mod commands;
mod damaged_disk;
mod drills;
mod identity;
mod identity_more;
mod identity_origins;
mod identity_rules;
mod intake;
mod kills;
mod network;
mod office;
mod oidc;
mod operations;
mod operator;
mod origins;
mod outsiders;
mod packages;
mod reading;
mod rig;
mod rights;
mod rights_access;
mod rights_midrun;
mod rights_rectify;
mod rights_residue;
mod rights_seeds;
mod rights_sinks;
mod routes;
mod shredding;
mod sinks;
mod sinks_logs;
mod sinks_rights;
mod sinks_stuck;
mod snapshot;
mod staff;
mod upgrade;
