//! What `idtrail bench` measures with: a load generator, and a private PostgreSQL to compare with.

pub mod histogram;
pub mod identity;
pub mod load;
pub mod postgres;
pub mod trail;
