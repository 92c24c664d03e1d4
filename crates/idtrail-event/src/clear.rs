//! The items that some of the log's own leaves hold in clear, so that an auditor can read them without any key.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Decoder;
use minicbor::data::Type;

use crate::cbor::{self, CborError};
use crate::retention::{ClassId, ClassTable, RetentionClass};

/// What the first leaf of a log says about its predecessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginStart {
    /// The log that this one continues, with its last known checkpoint (C2SP tlog-checkpoint); `None` in a new
    /// installation.
    pub previous: Option<(String, String)>,
}

/// Keys are about to be destroyed, or were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shred {
    /// The request that asks for it.
    pub request_id: String,
    /// How many leaves are concerned; never which.
    pub count: u64,
    /// The vault epoch that no longer holds the keys.
    pub epoch: u64,
}

impl OriginStart {
    /// Encodes `null` or `[origin, checkpoint]`.
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(64, |out| match &self.previous {
            None => out.null()?.ok(),
            Some((origin, checkpoint)) => out.array(2)?.str(origin)?.str(checkpoint)?.ok(),
        })
    }

    /// Reads what [`OriginStart::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Decoder::new(bytes);
        if input.datatype()? == Type::Null {
            input.null()?;
            return end(&input, Self { previous: None });
        }
        if input.array()? != Some(2) {
            return Err(CborError);
        }
        let previous = Some((input.str()?.to_owned(), input.str()?.to_owned()));
        end(&input, Self { previous })
    }
}

impl Shred {
    /// Encodes `[request id, count, epoch]`.
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(64, |out| out.array(3)?.str(&self.request_id)?.u64(self.count)?.u64(self.epoch)?.ok())
    }

    /// Reads what [`Shred::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Decoder::new(bytes);
        if input.array()? != Some(3) {
            return Err(CborError);
        }
        let shred = Self { request_id: input.str()?.to_owned(), count: input.u64()?, epoch: input.u64()? };
        end(&input, shred)
    }
}

impl ClassTable {
    /// Encodes `[version, [[id, name, months or null, reason], …]]`.
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(1024, |out| {
            out.array(2)?.u16(self.version)?.array(self.classes.len() as u64)?;
            for class in &self.classes {
                out.array(4)?.u8(class.id.number())?.str(&class.name)?;
                match class.months {
                    Some(months) => out.u16(months)?,
                    None => out.null()?,
                };
                out.str(&class.reason)?;
            }
            Ok(())
        })
    }

    /// Reads what [`ClassTable::encode`] wrote.
    ///
    /// # Errors
    /// [`CborError`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Decoder::new(bytes);
        if input.array()? != Some(2) {
            return Err(CborError);
        }
        let version = input.u16()?;
        let count = input.array()?.ok_or(CborError)?;
        let mut classes = Vec::new();
        for _ in 0..count {
            if input.array()? != Some(4) {
                return Err(CborError);
            }
            let id = ClassId::new(input.u8()?);
            let name = input.str()?.to_owned();
            let months = if input.datatype()? == Type::Null {
                input.null()?;
                None
            } else {
                Some(input.u16()?)
            };
            classes.push(RetentionClass { id, name, months, reason: input.str()?.to_owned() });
        }
        end(&input, Self { version, classes })
    }
}

fn end<T>(input: &Decoder<'_>, value: T) -> Result<T, CborError> {
    if input.position() == input.input().len() { Ok(value) } else { Err(CborError) }
}
