//! Resolves the records of a file and says which of them are one customer: for comparisons with other tools.
//!
//! ```text
//! cargo run --release -p idtrail-identity --example records -- ruleset.json < records.tsv > customers.tsv
//! ```
//! One record a line: its number, then `type=value` for each identifier, the type by its name in the ruleset, tabs between.
//! A line of the answer is the number of a record and the number of its customer; a record that is nobody's has its own.
//! Values are hashed without a key here, because nothing is kept.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use idtrail_event::{GlobalCustomerId, IdentifierToken};
use idtrail_identity::{Assurance, Home, Observation, ObservationId, Recorded, Ruleset, Sighting, State};
use idtrail_tlog::LogIndex;
use sha2::{Digest as _, Sha256};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: records RULESET.json < RECORDS > CUSTOMERS")?;
    let file = idtrail_examples_read(&path)?;
    let rules: Ruleset = serde_json::from_slice(&file)?;
    let mut state = State::new(rules.clone())?;
    let mut given = 0_u64;
    let mut give = |_: Home| {
        given += 1;
        GlobalCustomerId::new(u128::from(given).to_be_bytes())
    };
    let mut numbers = Vec::new();
    for (at, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        let mut parts = line.split('\t');
        numbers.push(parts.next().unwrap_or_default().to_owned());
        let sightings = parts.map(|part| {
            let (name, value) = part.split_once('=').context("an identifier is not type=value")?;
            let rule = rules.types.iter().find(|rule| rule.name == name);
            let kind = rule.with_context(|| format!("the ruleset has no type {name}"))?.kind();
            let token = IdentifierToken::new(Sha256::digest(part.as_bytes()).into());
            anyhow::ensure!(!value.is_empty(), "an identifier is empty");
            Ok(Sighting::new(kind, token, Assurance::MASTER))
        });
        let sightings = sightings.collect::<anyhow::Result<Vec<_>>>()?;
        let place = Recorded { index: LogIndex::new(at as u64), at_ms: 1_700_000_000_000 + at as u64 };
        let observation = Observation { id: id(at), time_ms: place.at_ms, sightings };
        state.resolve(&observation, place, &mut give)?;
    }
    let mut customers: HashMap<GlobalCustomerId, usize> = HashMap::new();
    let mut out = std::io::stdout().lock();
    for (at, number) in numbers.iter().enumerate() {
        let whose = state.whose(&id(at)).context("a record was not resolved")?;
        let customer = whose.gcid.map_or(at, |gcid| *customers.entry(gcid).or_insert(at));
        writeln!(out, "{number}\t{customer}")?;
    }
    Ok(())
}

fn id(at: usize) -> ObservationId {
    ObservationId::new((at as u128).to_be_bytes())
}

#[allow(clippy::disallowed_methods, reason = "an example reads the file that it is given")]
fn idtrail_examples_read(path: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{path} cannot be read"))
}
