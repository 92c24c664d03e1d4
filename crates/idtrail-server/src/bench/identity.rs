//! How fast identity decides, in one thread and without a disk: the part of every event that the log's thread cannot skip.
//!
//! The people are made up by counting, so that the same run can be had again: each has a telephone number and a mail address,
//! calls with one, writes with the other, and now and then says both.

use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use idtrail_identity::assertion::{Assertion, AssertionKind, Subject};
use idtrail_identity::ruleset::Class;
use idtrail_identity::{
    Actor, Assurance, Home, Identifier, IdentityError, Observation, ObservationId, Recorded, Ruleset,
    Sighting, State,
};
use idtrail_port::Clock;
use idtrail_port::os::ThreadFaults;
use idtrail_tlog::LogIndex;

use super::histogram::Histogram;

/// Of so many contacts of a person one names both identifiers.
const BOTH_EVERY: u64 = 4;
/// Identifiers of the customer that is split.
const SPLIT_IDENTIFIERS: u64 = 500;
const DAY_MS: u64 = 86_400_000;
const START_MS: u64 = 1_700_000_000_000;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Identifiers that were known in the end.
    pub identifiers: u64,
    /// Observations a second while they became known: what a start can do at best.
    pub fold_per_second: f64,
    /// Single decisions while they became known: whether something grows at once would show here.
    pub growth: Longest,
    /// Decisions a second with all of them known.
    pub resolves_per_second: f64,
    /// The longest of them.
    pub longest: Longest,
    /// Nanoseconds to split a customer of 500 identifiers.
    pub split_ns: u64,
}

/// The longest of many decisions, by the clock and by the time that the thread was running: on a machine that does other
/// things too, the former shows these.
#[derive(Clone, Debug, Default)]
pub struct Longest {
    /// Times by the clock.
    pub latency: Histogram,
    /// By the clock, in nanoseconds.
    pub max_ns: u64,
    /// Of the thread, in nanoseconds.
    pub max_cpu_ns: u64,
    /// How many took the thread more than a millisecond.
    pub slow: u64,
    /// How many of those waited for the kernel to provide memory.
    pub slow_faulting: u64,
    /// How often the kernel had to provide memory, in all of them.
    pub faults: u64,
}

impl Longest {
    fn record(&mut self, ns: u64, cpu_ns: u64, faults: u64) {
        self.latency.record(ns);
        self.max_ns = self.max_ns.max(ns);
        self.max_cpu_ns = self.max_cpu_ns.max(cpu_ns);
        let slow = cpu_ns > 1_000_000;
        self.slow += u64::from(slow);
        self.slow_faulting += u64::from(slow && faults > 0);
        self.faults += faults;
    }
}

/// Measures with so many identifiers, and a tenth as many decisions behind that. `cpu_ns` says how long the thread has
/// been running, `faulted` how often it waited for memory.
///
/// # Errors
/// Those of the identity model; none is expected.
pub fn measure(
    clock: &dyn Clock,
    cpu_ns: fn() -> u64,
    faulted: Option<&ThreadFaults>,
    identifiers: u64,
) -> Result<Report, IdentityError> {
    let mut state = State::new(Ruleset::default())?;
    let people = (identifiers / 2).max(1);
    let mut given = 0_u64;
    let mut ids = |_: Home| {
        given += 1;
        global_id(given)
    };
    let mut number = 0;
    let mut spent = 0;
    let mut one = |state: &mut State, person: u64, longest: &mut Longest| {
        // Making it is not what is measured.
        let (observation, at) = observation(number, person, people);
        number += 1;
        let faults_before = faulted.map_or(0, ThreadFaults::count);
        let cpu_before = cpu_ns();
        let before = clock.monotonic_ns();
        let decided = state.resolve(&observation, at, &mut ids);
        let ns = clock.monotonic_ns() - before;
        let own_ns = cpu_ns() - cpu_before;
        longest.record(ns, own_ns, faulted.map_or(0, ThreadFaults::count) - faults_before);
        spent += ns;
        let spent = spent;
        decided.map(|_| spent)
    };
    let (mut growth, mut longest) = (Longest::default(), Longest::default());
    let mut fold_ns = 0;
    for contact in 0..people * 2 {
        fold_ns = one(&mut state, contact, &mut growth)?;
    }
    let fold_per_second = rate(people * 2, fold_ns);
    let more = (identifiers / 10).max(1);
    let mut all_ns = fold_ns;
    for contact in 0..more {
        // People in no order: neighbours in memory would flatter.
        let person = contact.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        all_ns = one(&mut state, person, &mut longest)?;
    }
    drop(state);
    Ok(Report {
        identifiers: people * 2,
        fold_per_second,
        growth,
        resolves_per_second: rate(more, all_ns - fold_ns),
        longest,
        split_ns: split(clock)?,
    })
}

fn observation(number: u64, contact: u64, people: u64) -> (Observation, Recorded) {
    let person = contact % people;
    let phone = sighting(IdentifierType::PHONE, person);
    let mail = sighting(IdentifierType::EMAIL, person);
    let sightings = match number / people {
        0 => vec![phone],
        1 if person.is_multiple_of(BOTH_EVERY) => vec![phone, mail],
        1 => vec![mail],
        _ if number.is_multiple_of(BOTH_EVERY) => vec![phone, mail],
        _ => vec![phone],
    };
    let mut id = [0; 16];
    if let Some(head) = id.first_chunk_mut::<8>() {
        *head = mixed(number).to_be_bytes();
    }
    if let Some(tail) = id.last_chunk_mut::<8>() {
        *tail = number.to_be_bytes();
    }
    let time_ms = START_MS + number;
    let observation = Observation { id: ObservationId::new(id), time_ms, sightings };
    (observation, Recorded { index: LogIndex::new(number), at_ms: time_ms })
}

/// Makes one customer out of a chain of identifiers, and measures how long it takes to cut it in two.
fn split(clock: &dyn Clock) -> Result<u64, IdentityError> {
    let mut rules = Ruleset { fanout_max: 1_000, merges_per_day_max: 10_000, ..Ruleset::default() };
    for kind in rules.types.iter_mut().filter(|kind| kind.class == Class::Weak) {
        kind.max_per_cluster = 1_000;
    }
    let mut state = State::new(rules)?;
    let mut given = 0_u64;
    let mut ids = |_: Home| {
        given += 1;
        global_id(given)
    };
    let link = |at: u64| match at % 2 {
        0 => sighting(IdentifierType::PHONE, at),
        _ => sighting(IdentifierType::EMAIL, at),
    };
    for at in 0..SPLIT_IDENTIFIERS - 1 {
        let mut id = [0; 16];
        if let Some(head) = id.first_chunk_mut::<8>() {
            *head = at.to_be_bytes();
        }
        let time_ms = START_MS + at * DAY_MS;
        let observation =
            Observation { id: ObservationId::new(id), time_ms, sightings: vec![link(at), link(at + 1)] };
        state.resolve(&observation, Recorded { index: LogIndex::new(at), at_ms: time_ms }, &mut ids)?;
    }
    let subject = |at: u64| Subject::Identifier(link(at).identifier);
    let size =
        |state: &State| state.closure(&subject(0)).map(|found| found.customer.identifiers.len() as u64);
    let whole = size(&state)?;
    let assertion = Assertion {
        kind: AssertionKind::NotSame(vec![subject(0)], vec![subject(SPLIT_IDENTIFIERS - 1)]),
        actor: Actor::Steward,
        reason: "measured".to_owned(),
        approver: None,
    };
    let at =
        Recorded { index: LogIndex::new(SPLIT_IDENTIFIERS), at_ms: START_MS + SPLIT_IDENTIFIERS * DAY_MS };
    let before = clock.monotonic_ns();
    state.assert(&assertion, at, &mut ids)?;
    let ns = clock.monotonic_ns() - before;
    if whole != SPLIT_IDENTIFIERS || size(&state)? == whole {
        return Err(IdentityError::NotKnown { what: "customer of 500 identifiers that falls apart" });
    }
    Ok(ns)
}

fn sighting(kind: IdentifierType, person: u64) -> Sighting {
    let mut token = [0; 32];
    for (place, part) in token.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mixed(person << 2 | place as u64).to_be_bytes());
    }
    let Identifier { kind, token } = Identifier { kind, token: IdentifierToken::new(token) };
    Sighting::new(kind, token, Assurance::NETWORK)
}

fn global_id(number: u64) -> GlobalCustomerId {
    let mut bytes = [0; 16];
    if let Some(head) = bytes.first_chunk_mut::<8>() {
        *head = mixed(number).to_be_bytes();
    }
    if let Some(tail) = bytes.last_chunk_mut::<8>() {
        *tail = number.to_be_bytes();
    }
    GlobalCustomerId::new(bytes)
}

/// Spreads a number over 64 bits, as a hash would (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let one = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let two = (one ^ (one >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    two ^ (two >> 31)
}

#[allow(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
fn rate(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}

#[cfg(test)]
mod tests {
    use idtrail_port::os::{OsClock, thread_cpu_ns};

    use super::*;

    #[test]
    fn every_decision_is_counted_and_the_customer_of_500_falls_apart() {
        let faulted = ThreadFaults::of_this_thread().unwrap();
        let report = measure(&OsClock::default(), thread_cpu_ns, Some(&faulted), 2_000).unwrap();
        assert_eq!((report.identifiers, report.longest.latency.count()), (2_000, 200));
        assert!(report.growth.max_ns > 0 && report.growth.max_cpu_ns > 0);
        assert!(report.growth.faults > 0, "the state grows into fresh memory");
        assert!(report.growth.slow_faulting <= report.growth.slow);
        assert!(report.fold_per_second > 0.0 && report.resolves_per_second > 0.0 && report.split_ns > 0);
    }
}
