//! How the index behaves as the log grows: time to take an event over, time to look something up, memory, bytes on disk,
//! time to open it again.
//!
//! ```sh
//! cargo run --release -p idtrail-index --example growth -- 10000000
//! ```
//!
//! Customers come from a pool of two million, so the number of events of a customer grows with the log.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measuring program prints, and reads its own size from the kernel"
)]

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use idtrail_event::GlobalCustomerId;
use idtrail_index::IndexSet;
use idtrail_index::facts::{EventFacts, Facts, Hasher, Key};
use idtrail_index::lookup::{Lookup, LookupLimits, LookupOptions};
use idtrail_port::os::{OsClock, OsDisk};
use idtrail_port::{Clock, Disk};
use idtrail_tlog::LogIndex;

const CUSTOMERS: u64 = 2_000_000;
const BATCH: u64 = 10_000;
const LOOK_UPS: u64 = 20_000;
const ORIGIN: &str = "example.org/bench";

fn main() -> anyhow::Result<()> {
    let events: u64 = match std::env::args().nth(1) {
        Some(text) => text.parse().context("the first argument is how many events to take over")?,
        None => 1_000_000,
    };
    let dir = tempfile::tempdir()?;
    let hasher = Hasher::new("default", &[1; 32], &[2; 32]);
    let clock = OsClock::default();
    let lookup = open(dir.path(), &hasher)?;
    lookup.start_background()?;
    println!(
        "{:>11} {:>9} {:>9} | {:>19} {:>19} {:>19} {:>19} | {:>7} {:>8} {:>6}",
        "events",
        "us/event",
        "cpu us",
        "new id p50/p99 us",
        "customer",
        "events of one",
        "interaction",
        "B/event",
        "RSS MB",
        "files"
    );
    let (mut at, mut next_report) = (0_u64, 1_000_000.min(events));
    let (mut taken_ns, mut cpu_ms) = (0_u64, 0_u64);
    let mut since = 0_u64;
    while at < events {
        let count = BATCH.min(events - at);
        let facts: Vec<Facts> = (at..at + count).map(|number| make(&hasher, number)).collect();
        let (start, cpu) = (clock.monotonic_ns(), cpu_of_process_ms()?);
        for (index, facts) in (at..).zip(&facts) {
            lookup.fold(LogIndex::new(index), facts);
        }
        taken_ns += clock.monotonic_ns() - start;
        cpu_ms += cpu_of_process_ms()? - cpu;
        at += count;
        since += count;
        if at >= next_report {
            report(&lookup, &hasher, &clock, (at, since), (taken_ns, cpu_ms))?;
            (taken_ns, cpu_ms, since) = (0, 0, 0);
            next_report = (next_report * 10 / 3).div_ceil(1_000_000) * 1_000_000;
            if at < events {
                next_report = next_report.min(events);
            }
        }
    }
    erase(&lookup, &clock, events)?;
    let start = clock.monotonic_ns();
    lookup.close()?;
    println!("closed in {} ms", (clock.monotonic_ns() - start) / 1_000_000);
    drop(lookup);
    let start = clock.monotonic_ns();
    let again = open(dir.path(), &hasher)?;
    println!("opened again in {} ms", (clock.monotonic_ns() - start) / 1_000_000);
    ensure!(again.applied().get() == events, "the files know every event");
    Ok(())
}

fn open(dir: &Path, hasher: &Hasher) -> anyhow::Result<Lookup> {
    let options =
        LookupOptions { dir, origin: ORIGIN, hasher, vault_epochs: 1..=1, limits: LookupLimits::default() };
    Ok(Lookup::open(Arc::new(OsDisk) as Arc<dyn Disk>, &options)?)
}

/// A random number that belongs to another one.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn customer_of(event: u64) -> u64 {
    mix(event) % CUSTOMERS
}

fn subject(customer: u64) -> GlobalCustomerId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(customer).to_be_bytes());
    id[8..].copy_from_slice(&mix(!customer).to_be_bytes());
    GlobalCustomerId::new(id)
}

fn make(hasher: &Hasher, event: u64) -> Facts {
    let customer = customer_of(event);
    let dedupe = dedupe(hasher, event);
    let facts = EventFacts {
        subject: subject(customer),
        subject_sequence: event / CUSTOMERS,
        customer: Some(hasher.customer(&customer.to_string())),
        interaction: Some(hasher.interaction(&event.to_string())),
        dedupe,
        content: dedupe,
        content_is_id: true,
    };
    Facts { received_ms: event, event: Some(facts), step: None }
}

fn dedupe(hasher: &Hasher, event: u64) -> Key {
    hasher.interaction(&format!("dedupe {event}"))
}

fn report(
    lookup: &Lookup,
    hasher: &Hasher,
    clock: &OsClock,
    (events, since): (u64, u64),
    (taken_ns, cpu_ms): (u64, u64),
) -> anyhow::Result<()> {
    let size = lookup.size();
    let rss_mb = status_kb("VmRSS:")? / 1024;
    let per_event = |ns: u64| ns as f64 / 1000.0 / since as f64;
    let new_id = measure(
        clock,
        |number| {
            // A repetition is recognised through the same path that the sequencer takes.
            let key = hasher.interaction(&format!("never seen {number}"));
            move |lookup: &Lookup| Ok(lookup.interaction_page(&key, LogIndex::new(0), 1)?.len())
        },
        lookup,
    )?;
    let customer = measure(
        clock,
        |number| {
            let key = hasher.customer(&customer_of(mix(number) % events).to_string());
            move |lookup: &Lookup| Ok(usize::from(lookup.customer(&key)?.is_some()))
        },
        lookup,
    )?;
    let of_one = measure(
        clock,
        |number| {
            let id = subject(customer_of(mix(number) % events));
            move |lookup: &Lookup| Ok(lookup.subject(id)?.len())
        },
        lookup,
    )?;
    let interaction = measure(
        clock,
        |number| {
            let key = hasher.interaction(&(mix(number) % events).to_string());
            move |lookup: &Lookup| Ok(lookup.interaction(&key)?.len())
        },
        lookup,
    )?;
    ensure!(new_id.2 == 0 && customer.2 == LOOK_UPS as usize && interaction.2 >= LOOK_UPS as usize);
    let show = |(p50, p99, hits): (u64, u64, usize)| {
        format!("{:.1}/{:.1} ({:.1})", p50 as f64 / 1e3, p99 as f64 / 1e3, hits as f64 / LOOK_UPS as f64)
    };
    println!(
        "{events:>11} {:>9.2} {:>9.2} | {:>19} {:>19} {:>19} {:>19} | {:>7.1} {rss_mb:>8} {:>6}",
        per_event(taken_ns),
        per_event(cpu_ms * 1_000_000),
        show(new_id),
        show(customer),
        show(of_one),
        show(interaction),
        size.bytes as f64 / events as f64,
        size.files,
    );
    Ok(())
}

/// Returns median, 99th percentile in nanoseconds, and the sum of hits.
fn measure<F, G>(clock: &OsClock, prepare: F, lookup: &Lookup) -> anyhow::Result<(u64, u64, usize)>
where
    F: Fn(u64) -> G,
    G: Fn(&Lookup) -> anyhow::Result<usize>,
{
    let (mut times, mut hits) = (Vec::new(), 0);
    for number in 0..LOOK_UPS {
        let look_up = prepare(number);
        let start = clock.monotonic_ns();
        hits += look_up(lookup)?;
        times.push(clock.monotonic_ns() - start);
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() * 99 / 100], hits))
}

/// One customer in ten thousand is erased.
fn erase(lookup: &Lookup, clock: &OsClock, events: u64) -> anyhow::Result<()> {
    let dead: IndexSet = (0..events).filter(|event| customer_of(*event).is_multiple_of(10_000)).collect();
    let start = clock.monotonic_ns();
    lookup.forget(&dead)?;
    let hidden_ms = (clock.monotonic_ns() - start) / 1_000_000;
    lookup.settle()?;
    let gone_ms = (clock.monotonic_ns() - start) / 1_000_000;
    println!("erased {} events: hidden after {hidden_ms} ms, in no file after {gone_ms} ms", dead.len());
    Ok(())
}

fn status_kb(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find(|line| line.starts_with(name)).context("the kernel says no memory size")?;
    Ok(line.split_whitespace().nth(1).context("the line has a number")?.parse()?)
}

/// User and system time of all threads, in milliseconds (100 ticks a second).
fn cpu_of_process_ms() -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').context("the kernel's line names the process")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| {
        fields.get(at).context("the line has the times")?.parse::<u64>().map_err(anyhow::Error::from)
    };
    Ok((ticks(11)? + ticks(12)?) * 10)
}
