//! Requests to the store, and what its answers mean.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Certificate, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt as _,
    PutMode, PutOptions, RetryConfig,
};

use super::config::S3Config;
use super::request::{LIVE, ObjectName, near};
use crate::engine::{Ack, Batch, Cursor, Limits, Mode, Opened};
use crate::feed::BoxFuture;
use crate::position::Position;
use crate::row::Column;
use crate::secret::Secret;
use crate::sink::files::{encode, keys};
use crate::sink::{Grants, Sink};
use crate::tls;
use crate::verdict::{Failure, Status};

/// Bytes of rows in one object before it is compressed.
const OBJECT_ROWS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Says with an object which row is its last.
const LAST: &str = "idtrail-last";
/// Tells whether the store keeps to the condition on which everything rests. Query engines pass over such names.
const PROBE: &str = "_idtrail";

/// The writer's keys.
#[derive(Debug)]
pub struct S3Keys {
    /// The access key id.
    pub access: Secret,
    /// The secret key.
    pub secret: Secret,
}

/// Delivers to a bucket.
pub struct S3Sink {
    config: S3Config,
    columns: Arc<Vec<Column>>,
    store: Arc<dyn ObjectStore>,
    /// The store was seen to refuse a second object of a name.
    is_proven: bool,
}

impl std::fmt::Debug for S3Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Sink").field("bucket", &self.config.bucket).finish_non_exhaustive()
    }
}

impl S3Sink {
    /// Makes a sink; connects to nothing. `None` if the settings or the certificate authorities cannot be used.
    pub fn new(config: S3Config, keys: &S3Keys, ca: Option<&Secret>, columns: Vec<Column>) -> Option<Self> {
        let mut client = ClientOptions::new()
            .with_allow_http(config.allow_http)
            .with_connect_timeout(Duration::from_secs(10))
            // The worker has a deadline of its own for each call.
            .with_timeout(Duration::from_secs(600));
        if let Some(pem) = ca {
            let all = Certificate::from_pem_bundle(pem.expose().as_bytes()).ok()?;
            client = all.into_iter().fold(client.with_no_system_certificates(true), |client, one| {
                client.with_root_certificate(one)
            });
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(keys.access.expose())
            .with_secret_access_key(keys.secret.expose())
            .with_allow_http(config.allow_http)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(client)
            // The engine waits and tries again; it must see each failure.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        let store: Arc<dyn ObjectStore> = Arc::new(builder.build().ok()?);
        Some(Self { config, columns: Arc::new(columns), store, is_proven: false })
    }

    fn path(&self, name: &str) -> Path {
        Path::from_iter(self.config.prefix.split('/').filter(|part| !part.is_empty()).chain([name]))
    }

    fn prefix(&self) -> Path {
        Path::from_iter(self.config.prefix.split('/').filter(|part| !part.is_empty()))
    }

    /// Returns our objects whose names stand behind `offset`; a prefix is not searched deeper.
    async fn names(&self, offset: Option<&str>) -> Result<Vec<ObjectName>, Failure> {
        let prefix = self.prefix();
        let objects = match offset {
            Some(offset) => self.store.list_with_offset(Some(&prefix), &self.path(offset)),
            None => self.store.list(Some(&prefix)),
        };
        let extension = self.config.format.extension();
        let depth = prefix.parts().count() + 1;
        objects
            .try_filter_map(|object| {
                let is_direct = object.location.parts().count() == depth;
                let name = object.location.filename().and_then(|name| ObjectName::read(name, extension));
                std::future::ready(Ok(name.filter(|_| is_direct)))
            })
            .try_collect()
            .await
            .map_err(|error| verdict(&error))
    }

    /// Asks for the place of an object's last row.
    async fn last(&self, name: ObjectName) -> Result<Position, Failure> {
        let path = self.path(&name.write(self.config.format.extension()));
        let head = GetOptions { head: true, ..GetOptions::default() };
        let found = self.store.get_opts(&path, head).await.map_err(|error| verdict(&error))?;
        let last = found.attributes.get(&Attribute::Metadata(LAST.into()));
        // Somebody else put it there, or something took its metadata away.
        let foreign = || Failure::stop("object_differs", Status::none());
        last.and_then(|last| Position::from_token(last)).ok_or_else(foreign)
    }

    /// Makes an object unless there is one of its name.
    async fn create(&self, name: &str, bytes: Vec<u8>, last: Option<Position>) -> Result<(), Error> {
        let mut attributes = Attributes::new();
        if let Some(last) = last {
            attributes.insert(Attribute::Metadata(LAST.into()), last.to_token().into());
        }
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        self.store.put_opts(&self.path(name), bytes.into(), options).await.map(|_| ())
    }

    /// Puts an empty object twice: the second one must be refused, or nothing here is exactly once.
    async fn prove(&mut self) -> Result<(), Failure> {
        for _ in 0..2 {
            match self.create(PROBE, Vec::new(), None).await {
                Ok(()) => {}
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    self.is_proven = true;
                    return Ok(());
                }
                Err(error) => return Err(verdict(&error)),
            }
        }
        Err(Failure::stop("no_conditional_put", Status::none()))
    }

    async fn open_session(&mut self, cursor: &Cursor) -> Result<Opened, Failure> {
        if !self.is_proven {
            self.prove().await?;
        }
        // What begins before the cursor is settled; a cursor that was lost begins at the start and sees everything.
        let offset = format!("{LIVE}{}", cursor.next.to_token());
        let newest = self.names(Some(&offset)).await?.into_iter().filter(|name| name.again.is_none()).max();
        let high_water = match newest {
            Some(name) => Some(self.last(name).await?),
            None => None,
        };
        Ok(Opened { high_water, ..Opened::default() })
    }

    async fn send(&self, batch: &Batch) -> Result<Ack, Failure> {
        let mut batch = batch.clone();
        let mut name = ObjectName { first: batch.first(), again: None };
        if batch.mode == Mode::Keyed {
            let all = self.names(None).await?;
            let there = self.places(&all, batch.first(), batch.last()).await?;
            batch.rows.retain(|row| !there.contains(&row.position));
            if batch.rows.is_empty() {
                return Ok(Ack::default());
            }
            let first = batch.first();
            let again = all.iter().filter(|name| name.again.is_some() && name.first == first).count();
            name = ObjectName { first, again: Some(u32::try_from(again).unwrap_or(u32::MAX)) };
        }
        let (last, format, columns) = (batch.last(), self.config.format, Arc::clone(&self.columns));
        let encoded = tokio::task::spawn_blocking(move || encode(format, &batch, &columns)).await;
        let bytes = encoded.unwrap_or_else(|_| Err(Failure::reopen("interrupted", Status::none())))?;
        self.create(&name.write(format.extension()), bytes, Some(last))
            .await
            .map_err(|error| verdict(&error))?;
        Ok(Ack::default())
    }

    /// Returns the places that are in the store, of those from `first` to `last`, and perhaps some around them.
    async fn places(
        &self,
        all: &[ObjectName],
        first: Position,
        last: Position,
    ) -> Result<BTreeSet<Position>, Failure> {
        let mut there = BTreeSet::new();
        for name in near(all, first, last) {
            if name.again.is_some() && self.last(name).await? < first {
                continue;
            }
            let path = self.path(&name.write(self.config.format.extension()));
            let found = self.store.get(&path).await.map_err(|error| verdict(&error))?;
            let bytes = found.bytes().await.map_err(|error| verdict(&error))?;
            there.extend(keys(self.config.format, bytes.into())?);
        }
        Ok(there)
    }
}

impl Sink for S3Sink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.rows_max.max(1),
            bytes_max: OBJECT_ROWS_BYTES_MAX,
            linger_ms: self.config.linger_ms,
            notes_intent: false,
            saves_every_batch: false,
            keyed: true,
        }
    }

    fn open<'a>(&'a mut self, cursor: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>> {
        Box::pin(self.open_session(cursor))
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>> {
        Box::pin(self.send(batch))
    }

    fn count(&mut self, first: Position, last: Position) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(async move {
            let all = self.names(None).await?;
            let places = self.places(&all, first, last).await?;
            Ok(Some(places.range(first..=last).count() as u64))
        })
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        let reason = "a store does not say what a key may do: look at its policy".to_owned();
        Box::pin(std::future::ready(Ok(Grants::Unknown { reason })))
    }
}

/// Judges an error. Its text, which may quote an answer, goes nowhere. Whether a put arrived nobody knows unless the store
/// says so: then the newest object decides.
fn verdict(error: &Error) -> Failure {
    let none = Status::none();
    match error {
        // Ours, from an answer that was lost, or of another writer. A store that is asked for the same name twice at a time
        // says this too, although nothing is there: the session that is opened next will see.
        Error::AlreadyExists { .. } | Error::Precondition { .. } => {
            Failure::reopen("exists", Status::from(412))
        }
        Error::NotFound { .. } => Failure::stop("bucket_missing", Status::from(404)),
        // Stores say so of a wrong key, a wrong signature and a missing permission alike.
        Error::PermissionDenied { .. } => Failure::stop("denied", Status::from(403)),
        Error::Unauthenticated { .. } => Failure::stop("credentials", Status::from(401)),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            Failure::stop("no_conditional_put", none)
        }
        other if tls::is_certificate_error(other) => Failure::stop("certificate", none),
        _ => Failure::reopen("store", none),
    }
}
