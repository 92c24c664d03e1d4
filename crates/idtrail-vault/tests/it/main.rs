//! The vault from outside: its formats, its life, and what is left of it after faults, crashes, loss and theft.

mod crash;
mod life;
mod repair;
mod rig;
mod threads;
mod vectors;
