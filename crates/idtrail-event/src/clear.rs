//! The items that some of the log's own leaves hold in clear, so that an auditor can read them without any key.
//!
//! They go into [`crate::LeafHeader::clear`] as deterministic CBOR. They say what the log is and how far its vault has
//! come, and never which leaves or persons are concerned.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{CborError, Kind, Reader, Writer};
use crate::retention::{ClassId, ClassTable, RetentionClass};

/// CLASS_TABLE: the retention classes from this leaf on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTableItem(pub ClassTable);

/// ORIGIN_START: what the first leaf of a log says about its predecessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginStartItem {
    /// The log that this one continues, with its last known checkpoint (C2SP tlog-checkpoint); `None` in a new
    /// installation.
    pub previous: Option<(String, String)>,
}

/// SHRED_INTENT: keys are about to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShredIntentItem {
    /// The request that asks for it.
    pub request_id: String,
    /// How many leaves are concerned.
    pub count: u64,
    /// The vault's epoch that will no longer hold the keys.
    pub target_epoch: u64,
}

/// KEY_SHREDDED: keys were destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyShreddedItem {
    /// The request that asked for it.
    pub request_id: String,
    /// How many leaves were concerned.
    pub count: u64,
    /// The vault's epoch that no longer holds the keys.
    pub epoch: u64,
}

/// LOG_KEY_ROTATED: trees beyond this leaf are signed by another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeyRotatedItem {
    /// The key that signed until now, as a verifier key (C2SP signed-note).
    pub old: String,
    /// The key that signs from now on.
    pub new: String,
}

impl LogKeyRotatedItem {
    /// Encodes `[old, new]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.old.len() + self.new.len() + 8);
        out.array(2);
        out.text(&self.old);
        out.text(&self.new);
        out.into_vec()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Reader::new(bytes);
        expect_array(&mut input, 2)?;
        let item = Self { old: input.text()?.to_owned(), new: input.text()?.to_owned() };
        input.finish()?;
        Ok(item)
    }
}

impl ClassTableItem {
    /// Encodes `[version, [[id, name, months or null, reason], …]]`.
    pub fn encode(&self) -> Vec<u8> {
        let Self(table) = self;
        let mut out = Writer::with_capacity(1024);
        out.array(2);
        out.uint(u64::from(table.version));
        out.array(table.classes.len());
        for class in &table.classes {
            out.array(4);
            out.uint(u64::from(class.id.code()));
            out.text(&class.name);
            match class.months {
                Some(months) => out.uint(u64::from(months)),
                None => out.null(),
            }
            out.text(&class.reason);
        }
        out.into_vec()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Reader::new(bytes);
        expect_array(&mut input, 2)?;
        let version = input.small()?;
        let count = input.array()?;
        let mut classes = Vec::new();
        for _ in 0..count {
            expect_array(&mut input, 4)?;
            let id = ClassId::new(input.small()?);
            let name = input.text()?.to_owned();
            let months = if input.kind()? == Kind::Null {
                input.null()?;
                None
            } else {
                Some(input.small()?)
            };
            classes.push(RetentionClass { id, name, months, reason: input.text()?.to_owned() });
        }
        input.finish()?;
        Ok(Self(ClassTable { version, classes }))
    }
}

impl OriginStartItem {
    /// Encodes `null` or `[origin, checkpoint]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(512);
        match &self.previous {
            None => out.null(),
            Some((origin, checkpoint)) => {
                out.array(2);
                out.text(origin);
                out.text(checkpoint);
            }
        }
        out.into_vec()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Reader::new(bytes);
        let previous = if input.kind()? == Kind::Null {
            input.null()?;
            None
        } else {
            expect_array(&mut input, 2)?;
            Some((input.text()?.to_owned(), input.text()?.to_owned()))
        };
        input.finish()?;
        Ok(Self { previous })
    }
}

impl ShredIntentItem {
    /// Encodes `[request id, count, target epoch]`.
    pub fn encode(&self) -> Vec<u8> {
        encode_shred(&self.request_id, self.count, self.target_epoch)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let (request_id, count, target_epoch) = decode_shred(bytes)?;
        Ok(Self { request_id, count, target_epoch })
    }
}

impl KeyShreddedItem {
    /// Encodes `[request id, count, epoch]`.
    pub fn encode(&self) -> Vec<u8> {
        encode_shred(&self.request_id, self.count, self.epoch)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let (request_id, count, epoch) = decode_shred(bytes)?;
        Ok(Self { request_id, count, epoch })
    }
}

fn encode_shred(request_id: &str, count: u64, epoch: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(request_id.len() + 24);
    out.array(3);
    out.text(request_id);
    out.uint(count);
    out.uint(epoch);
    out.into_vec()
}

fn decode_shred(bytes: &[u8]) -> Result<(String, u64, u64), CborError> {
    let mut input = Reader::new(bytes);
    expect_array(&mut input, 3)?;
    let shred = (input.text()?.to_owned(), input.uint()?, input.uint()?);
    input.finish()?;
    Ok(shred)
}

fn expect_array(input: &mut Reader<'_>, items: u64) -> Result<(), CborError> {
    if input.array()? == items { Ok(()) } else { Err(CborError) }
}
