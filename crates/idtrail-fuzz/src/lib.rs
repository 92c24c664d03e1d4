//! Throws changed inputs at everything that reads bytes from outside, and checks what must hold for each.
//!
//! A [`Target`] is a corpus, made from the language-neutral vectors of this repository, and a function that takes any
//! bytes and panics if a promise is broken. Inputs are made by changing and splicing the corpus ([`mutate`]): purely
//! random bytes would not get past the first check of any of these formats. A run depends on its seed only, and a
//! failure names seed and round, so that it can be had again.
//!
//! The test run makes a few thousand rounds of each target; `cargo run --release -p idtrail-fuzz -- --seconds 600`
//! goes on for longer. Development only; nothing here is part of the product.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken promise must stop the run, and that is what a panic does"
)]

pub mod mutate;
mod stored;
mod texts;
mod trust;

use idtrail_sim::Seed;

/// One reader of outside bytes, and what must hold for any bytes at all.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Returns well-formed inputs to start from; never empty.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Takes any bytes; panics if a promise is broken. Returns whether they were accepted.
    pub check: fn(&[u8]) -> bool,
    /// How many rounds the test run makes.
    pub rounds: u64,
}

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Inputs tried.
    pub rounds: u64,
    /// How many of them were accepted by the reader.
    pub accepted: u64,
}

/// Returns all targets.
pub fn targets() -> Vec<Target> {
    [texts::TARGETS, trust::TARGETS, stored::TARGETS].concat()
}

/// Tries the corpus as it is, then changed inputs while `more` says so, given the count of rounds made.
///
/// # Panics
/// If a promise is broken; the message names target, seed and round, and the input in hex.
pub fn run(target: &Target, seed: u64, mut more: impl FnMut(u64) -> bool) -> Ran {
    let corpus = (target.corpus)();
    assert!(!corpus.is_empty(), "target {} has no corpus", target.name);
    let mut accepted = 0;
    for input in &corpus {
        accepted += u64::from(guarded(target, input, seed, 0));
    }
    let mut rounds = 0;
    while more(rounds) {
        rounds += 1;
        // Each round has a generator of its own, so that one can be had again alone.
        let mut rng = Seed::new(seed).derive(target.name).derive(&rounds.to_string()).rng();
        let input = mutate::changed(&corpus, &mut rng);
        accepted += u64::from(guarded(target, &input, seed, rounds));
    }
    Ran { rounds, accepted }
}

fn guarded(target: &Target, input: &[u8], seed: u64, round: u64) -> bool {
    match std::panic::catch_unwind(|| (target.check)(input)) {
        Ok(accepted) => accepted,
        Err(cause) => {
            let said = cause
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| cause.downcast_ref::<&str>().copied())
                .unwrap_or("a panic");
            let input = data_encoding::HEXLOWER.encode(input);
            panic!("target {}, seed {seed}, round {round}: {said}\ninput {input}", target.name)
        }
    }
}
