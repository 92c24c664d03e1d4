//! The last part of the demo: the person who called, wrote and chatted asks for erasure, and gets a certificate that
//! verifies when the server has ended.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use idtrail_port::{Network as _, Privacy, read_whole, write_atomic};
use idtrail_verify::Verdict;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{DEADLINE, Demo, WAREHOUSE, exchange, expect};
use crate::cli::{Failure, OrExit as _, init};
use crate::exit::Exit;

pub(super) const REQUESTS: &str = "/api/v1/rights/requests";
const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What a request for access finds.
struct Known {
    events: usize,
    deletions: usize,
}

impl Demo<'_> {
    /// Erases the person of the three contacts; the certificate is on disk afterwards.
    pub(super) async fn erase(&self, address: SocketAddr) -> Result<(), Failure> {
        let first = self.token(address).await?;
        let second = self.token_of(address, &self.second.0, &self.second.1).await?;
        let phone = json!({ "type": "phone", "value": "+14155552671" });
        let before = self.known(address, &first, &phone).await?;
        let open = json!({ "kind": "ERASURE", "regime": "gdpr", "manner": "phone", "identifier": phone });
        let opened = self.command(address, &first, "", &open).await?;
        let id = opened.get("requestId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let shown = hash(b"a code sent to the address was read back");
        let verified = json!({ "level": "ONE_CHANNEL", "method": "otp-mail", "evidence": shown });
        self.command(address, &first, &format!("/{id}/verify"), &verified).await?;
        let plan = self.until(address, &first, &id, "PLANNED").await?;
        let approval = json!({ "planHash": plan.pointer("/plan/hash") });
        for token in [&first, &second] {
            self.command(address, token, &format!("/{id}/approve"), &approval).await?;
        }
        self.until(address, &first, &id, "FROZEN").await?;
        let copies = self.empty_warehouse()?;
        let item = format!("sink/{WAREHOUSE}");
        let count = plan.pointer("/items").and_then(|items| items.get(&item)?.get("found")).cloned();
        let attested =
            json!({ "item": item, "count": count, "evidence": hash(copies.join("\n").as_bytes()) });
        self.command(address, &first, &format!("/{id}/attest"), &attested).await?;
        self.until(address, &first, &id, "CLOSED_FULFILLED").await?;
        let after = self.known(address, &first, &phone).await?;
        let gone = before.deletions == 0 && before.events > 0 && after.events == 0 && after.deletions > 0;
        expect(gone, "the erased person is still known, or the deletions are not found")?;
        let certificate = self.get(address, &first, &format!("/{id}/certificate")).await?;
        write_atomic(&*self.context.disk, &self.certificate(), &certificate, Privacy::Owner)?;
        self.tell(
            "10 Then that person asked for erasure: two people approved, the warehouse was emptied, the keys are destroyed",
        );
        self.tell(&format!(
            "   a request for access found {} events before, and now the {} deletions of request {id} and nothing else",
            before.events, after.deletions
        ));
        Ok(())
    }

    /// Verifies the certificate with nothing but the policy file.
    pub(super) fn verify_certificate(&self) -> Result<(), Failure> {
        let file = read_whole(&*self.context.disk, &self.certificate(), CERTIFICATE_BYTES_MAX)?;
        let policy = init::policy(self.context, &self.made.policy)?;
        let report = idtrail_verify::verify(&file, &policy);
        expect(report.verdict == Verdict::Verified, "the certificate does not verify")?;
        self.tell(&format!(
            "11 The server has ended; the certificate of the erasure verifies without it: {}",
            self.certificate().display()
        ));
        Ok(())
    }

    fn certificate(&self) -> std::path::PathBuf {
        self.dir.join("certificate.json")
    }

    fn tell(&self, line: &str) {
        Demo::say(self, line);
    }

    /// Returns what a request for access finds.
    async fn known(&self, address: SocketAddr, token: &str, identifier: &Value) -> Result<Known, Failure> {
        let question = json!({ "identifier": identifier, "requestType": "ACCESS" }).to_string().into_bytes();
        let path = "/api/v1/compliance/dsar/audit-trail";
        let (status, package) =
            exchange(&*self.network, address, path, question, &self.key, Some(token)).await?;
        expect(status == StatusCode::OK, "a request for access was not answered")?;
        let package: Value = serde_json::from_slice(&package).or_exit(Exit::Io)?;
        let events = package.get("events").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_deletion =
            |event: &&Value| event.pointer("/auditEvent/eventType") == Some(&json!("DATA_DELETION"));
        let deletions = events.iter().filter(is_deletion).count();
        Ok(Known { events: events.len() - deletions, deletions })
    }

    /// Says something to a request, or opens one.
    pub(super) async fn command(
        &self,
        address: SocketAddr,
        token: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let path = format!("{REQUESTS}{path}");
        let body = body.to_string().into_bytes();
        let (status, answer) = exchange(&*self.network, address, &path, body, &self.key, Some(token)).await?;
        expect(status.is_success(), "a request for erasure did not take what was said to it")?;
        serde_json::from_slice(&answer).or_exit(Exit::Io)
    }

    pub(super) async fn get(&self, address: SocketAddr, token: &str, path: &str) -> Result<Bytes, Failure> {
        let request = Request::get(format!("http://{address}{REQUESTS}{path}"))
            .header("x-api-key", &self.key)
            .header("authorization", format!("Bearer {token}"))
            .body(Bytes::new())
            .or_exit(Exit::Io)?;
        let response = self.network.exchange(request, DEADLINE).await.or_exit(Exit::Io)?;
        expect(response.status() == StatusCode::OK, "a request for erasure cannot be looked at")?;
        Ok(response.into_body())
    }

    /// Waits for a state of a request.
    pub(super) async fn until(
        &self,
        address: SocketAddr,
        token: &str,
        id: &str,
        state: &str,
    ) -> Result<Value, Failure> {
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                let shown = self.get(address, token, &format!("/{id}")).await?;
                let shown: Value = serde_json::from_slice(&shown).or_exit(Exit::Io)?;
                if shown.get("state").and_then(Value::as_str) == Some(state) {
                    return Ok(shown);
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        waited.await.or_exit(Exit::Io)?
    }

    /// Removes the files of the warehouse, as whoever runs one would, and returns their names.
    fn empty_warehouse(&self) -> Result<Vec<String>, Failure> {
        let dir = self.dir.join(WAREHOUSE);
        let names = self.context.disk.list(&dir)?;
        let names: Vec<String> = names.into_iter().filter(|name| name.ends_with(".parquet")).collect();
        for name in &names {
            self.context.disk.remove(&dir.join(name))?;
        }
        self.context.disk.sync_dir(&dir)?;
        Ok(names)
    }
}

pub(super) fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}
