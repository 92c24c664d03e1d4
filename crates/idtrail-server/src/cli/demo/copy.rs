//! The person who called, wrote and chatted asks for a copy: it is looked through, packed, and fetched with a link.

use std::io::{Cursor, Read as _};
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use idtrail_port::{Network as _, Privacy, write_atomic};
use serde_json::{Value, json};

use super::erasure::{REQUESTS, hash};
use super::{DEADLINE, Demo, expect};
use crate::cli::{Failure, OrExit as _};
use crate::exit::Exit;

/// File with the records of processing, beside the configuration.
pub(super) const RECORDS: &str = "processing.json";

/// Returns the records of processing of the demo's controller.
pub(super) fn records() -> Value {
    json!({
        "controller": "Example Ltd, 1 High Street, Exampleton", "officer": "dpo@example.com",
        "authority": "The supervisory authority of Example",
        "activities": [{
            "name": "Contact centre", "systems": ["idtrail"], "purposes": ["recognise who calls, writes or chats"],
            "legalBasis": "contract (Art. 6(1)(b) GDPR)", "categories": ["times and channels of contacts", "keyed hashes"],
            "subjects": ["customers"], "recipients": [], "retention": "36 months",
            "source": "the telephone network and the person's messages", "security": "keyed hashes, sealed leaves"
        }]
    })
}

impl Demo<'_> {
    /// Answers a request for access; the package is on disk and read afterwards.
    pub(super) async fn give_copy(&self, address: SocketAddr) -> Result<(), Failure> {
        let officer = self.token(address).await?;
        let phone = json!({ "type": "phone", "value": "+14155552671" });
        let open = json!({ "kind": "ACCESS", "regime": "gdpr", "manner": "phone", "identifier": phone });
        let opened = self.command(address, &officer, "", &open).await?;
        let id = opened.get("requestId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let shown = hash(b"the caller read back a code that was sent to the address");
        let verified = json!({ "level": "ONE_CHANNEL", "method": "otp-mail", "evidence": shown });
        self.command(address, &officer, &format!("/{id}/verify"), &verified).await?;
        self.until(address, &officer, &id, "REVIEW").await?;
        let draft: Value =
            serde_json::from_slice(&self.get(address, &officer, &format!("/{id}/review")).await?)
                .or_exit(Exit::Io)?;
        let count = draft.get("events").and_then(Value::as_array).map_or(0, Vec::len);
        expect(count > 0, "nothing was read for a request for access")?;
        let review = json!({
            "proposedHash": draft.get("proposedHash"), "sharedStayOut": true, "includeProbable": true
        });
        self.command(address, &officer, &format!("/{id}/review"), &review).await?;
        self.until(address, &officer, &id, "DELIVERED").await?;
        let link: Value = serde_json::from_slice(&self.get(address, &officer, &format!("/{id}/link")).await?)
            .or_exit(Exit::Io)?;
        let text = |name: &str| link.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let package = self.fetched(address, &text("link")).await?;
        let path = self.dir.join("your-data.zip");
        write_atomic(&*self.context.disk, &path, &package, Privacy::Owner)?;
        let mut archive = zip::ZipArchive::new(Cursor::new(package.as_ref())).or_exit(Exit::Io)?;
        let mut page = String::new();
        let passphrase = text("passphrase");
        let mut file = archive.by_name_decrypt("index.html", passphrase.as_bytes()).or_exit(Exit::Io)?;
        file.read_to_string(&mut page).or_exit(Exit::Io)?;
        expect(page.contains("What the law asks us to tell you"), "the package has no page")?;
        drop(file);
        // The link has served its purpose.
        self.command(address, &officer, &format!("/{id}/revoke-link"), &json!({})).await?;
        self.until(address, &officer, &id, "CLOSED_FULFILLED").await?;
        Demo::say(
            self,
            &format!(
                "9  That person asked for a copy: {count} events, looked through, in {}",
                path.display()
            ),
        );
        Demo::say(
            self,
            &format!("   passphrase, which travels apart from the link: {passphrase}; request {id}"),
        );
        Ok(())
    }

    /// Fetches a package as the requester does: with the link and nothing else.
    async fn fetched(&self, address: SocketAddr, link: &str) -> Result<Bytes, Failure> {
        let request = Request::get(format!("http://{address}{link}")).body(Bytes::new()).or_exit(Exit::Io)?;
        let response = self.network.exchange(request, DEADLINE).await.or_exit(Exit::Io)?;
        expect(
            response.status() == StatusCode::OK && !link.starts_with(REQUESTS),
            "a package cannot be fetched",
        )?;
        Ok(response.into_body())
    }
}
