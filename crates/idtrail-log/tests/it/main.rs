//! Tests of the log at its boundary, on a simulated disk that loses what was not synced.

mod crashes;
mod damage;
mod support;
mod threads;
