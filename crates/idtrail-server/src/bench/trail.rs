//! Load for `idtrail bench --trail`: batches, requests for access, and a server of its own that can be killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use idtrail_port::{Clock, Disk, Open};

use super::load::MakeRequest;
use crate::synthetic;

/// Events of one batch.
pub const BATCH: u64 = 1000;
/// Batches made before a round.
const BATCHES_MADE: u64 = 48;
/// The interaction's id of a made-up event, up to where a new one is written.
const ID_START: &str = "\"interactionId\":\"00000000-0000-0000-0000-";
const ID: &str = "\"interactionId\":\"";
/// How long a server may take to be ready.
const REST: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_PERIOD: Duration = Duration::from_millis(1);

fn post(path: &str, media: &str, (host, key, token): (&str, &str, Option<&str>), body: &str) -> Vec<u8> {
    let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\n{bearer}content-type: {media}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn batch(events: impl Iterator<Item = u64>, people: u64, now_ms: i64) -> String {
    let mut body = String::new();
    for number in events {
        body.push_str(&synthetic::event(number, people, now_ms).to_string());
        body.push('\n');
    }
    body
}

/// Returns a maker of batches that costs little more than a copy: only the interactions' ids are new in each.
pub fn batches((host, key): (&str, &str), people: u64, now_ms: i64, round: u32) -> MakeRequest {
    let mut made = Vec::new();
    for number in 0..BATCHES_MADE {
        let first = (u64::from(round) << 40) | (number * BATCH);
        let body = batch(first..first + BATCH, people, now_ms);
        let request = post("/api/v1/events:batch", "application/x-ndjson", (host, key, None), &body);
        let text = String::from_utf8_lossy(&request).into_owned();
        let places: Vec<usize> = text.match_indices(ID).map(|(at, _)| at + ID_START.len()).collect();
        made.push((request, places));
    }
    Arc::new(move |number, request| {
        let Some((bytes, places)) = made.get((number % BATCHES_MADE) as usize) else { return };
        request.extend_from_slice(bytes);
        for (event, at) in (0..).zip(places) {
            let id = ((u64::from(round) << 40) | (number * BATCH + event)).to_be_bytes();
            if let (Some(target), [_, _, id @ ..]) = (request.get_mut(*at..at + 12), &id) {
                HEXLOWER.encode_mut(id, target);
            }
        }
    })
}

/// Returns a maker of batches in which every event is a new one, to fill a log with.
pub fn filling((host, key): (&str, &str), people: u64, now_ms: i64) -> MakeRequest {
    let (host, key) = (host.to_owned(), key.to_owned());
    Arc::new(move |number, request| {
        let first = (1 << 56) | (number * BATCH);
        let body = batch(first..first + BATCH, people, now_ms);
        *request = post("/api/v1/events:batch", "application/x-ndjson", (&host, &key, None), &body);
    })
}

/// Returns the body of a request for access to all events of a made-up person.
pub fn question(person: u64) -> String {
    format!("{{\"customerIdHash\":\"{}\",\"requestType\":\"ACCESS\"}}", synthetic::customer(person))
}

/// Returns a maker of requests for access, each about another person.
pub fn questions((host, key, token): (&str, &str, &str), people: u64, from: u64) -> MakeRequest {
    let (host, key, token) = (host.to_owned(), key.to_owned(), token.to_owned());
    Arc::new(move |number, request| {
        // A step that shares no factor with the count of people, so that neighbours in the log are not asked in a row.
        let person = (from + number).wrapping_mul(7_368_787) % people;
        let credentials = (host.as_str(), key.as_str(), Some(token.as_str()));
        let path = "/api/v1/compliance/dsar/audit-trail";
        *request = post(path, "application/json", credentials, &question(person));
    })
}

/// A server in a process of its own, which ends with it.
pub struct Process {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
    /// From its start until it said that it acknowledges events, in nanoseconds.
    pub ready_ns: u64,
}

impl Process {
    /// Starts this program as a server and waits until it is ready.
    ///
    /// # Errors
    /// If it cannot be started, or ends before.
    #[allow(clippy::disallowed_methods, reason = "another process tells nobody when it becomes ready")]
    pub fn start(clock: &dyn Clock, config: &Path) -> std::io::Result<Self> {
        let start_ns = clock.monotonic_ns();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let ended = || std::io::Error::other("the server ended before it was ready");
        let mut lines = BufReader::new(child.stderr.take().ok_or_else(ended)?);
        let address = loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Err(ended());
            }
            let named = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(address) = named.and_then(|address| address.parse().ok()) {
                break address;
            }
        };
        // What it says later is read, so that it never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let mut process = Self { child, address, ready_ns: 0 };
        while !is_ready(address) {
            if clock.monotonic_ns().saturating_sub(start_ns) > PATIENCE.as_nanos() as u64 {
                return Err(ended());
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        process.ready_ns = clock.monotonic_ns().saturating_sub(start_ns);
        Ok(process)
    }

    /// Waits while it has nothing to do: freed memory goes back to the operating system a little later.
    #[allow(clippy::disallowed_methods, reason = "nothing tells when freed memory has gone back")]
    pub fn rest(&self) {
        std::thread::sleep(REST);
    }

    /// Returns the bytes of memory that it holds now, and the most that it ever held; zeros where `/proc` does not say.
    pub fn memory_bytes(&self, disk: &dyn Disk) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.child.id());
        let mut text = vec![0; 8192];
        let read = disk.open(Path::new(&path), Open::Read).and_then(|file| file.read_at(&mut text, 0));
        let text = String::from_utf8_lossy(text.get(..read.unwrap_or(0)).unwrap_or_default()).into_owned();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Kills it without a word (SIGKILL).
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}
