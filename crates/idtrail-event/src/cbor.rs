//! Deterministic CBOR (RFC 8949 §4.2.1): a writer that knows no other form, and a reader that accepts no other.
//!
//! Shortest heads, definite lengths, shortest floats, map keys sorted by their encoded bytes and unique. The reader is
//! strict while it reads, so nothing has to be checked a second time. Both work on memory; the writer cannot fail.
//! General CBOR libraries read every form that the standard allows, which would let one content have many encodings;
//! that is why this crate has its own 200 lines.

use alloc::vec::Vec;

/// How deep items may nest. JSON may nest 32 deep; the leaf adds one map, and tagged ids an array and a tag.
pub(crate) const DEPTH_MAX: usize = 40;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Bytes are not the deterministic CBOR that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the expected deterministic CBOR")]
pub struct CborError;

/// Writes items one behind the other.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn out_mut(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes bytes that are CBOR already.
    pub(crate) fn raw(&mut self, item: &[u8]) {
        self.out.extend_from_slice(item);
    }

    #[inline]
    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        if value < 24 {
            self.out.push(major | value as u8);
        } else if let Ok(value) = u8::try_from(value) {
            self.out.extend_from_slice(&[major | 24, value]);
        } else if let Ok(value) = u16::try_from(value) {
            let [a, b] = value.to_be_bytes();
            self.out.extend_from_slice(&[major | 25, a, b]);
        } else if let Ok(value) = u32::try_from(value) {
            let [a, b, c, d] = value.to_be_bytes();
            self.out.extend_from_slice(&[major | 26, a, b, c, d]);
        } else {
            self.out.push(major | 27);
            self.out.extend_from_slice(&value.to_be_bytes());
        }
    }

    pub(crate) fn uint(&mut self, value: u64) {
        self.head(UINT, value);
    }

    pub(crate) fn int(&mut self, value: i64) {
        // −1 − n, which is the complement of n.
        if value < 0 { self.head(NEGATIVE, !value as u64) } else { self.head(UINT, value as u64) }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes_head(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn bytes_head(&mut self, length: usize) {
        self.head(BYTES, length as u64);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn array(&mut self, items: usize) {
        self.head(ARRAY, items as u64);
    }

    pub(crate) fn map(&mut self, members: usize) {
        self.head(MAP, members as u64);
    }

    pub(crate) fn tag(&mut self, tag: u64) {
        self.head(TAG, tag);
    }

    pub(crate) fn null(&mut self) {
        self.out.push(0xf6);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xf5 } else { 0xf4 });
    }

    /// Writes a finite number in the shortest of the three forms that keeps its value.
    pub(crate) fn float(&mut self, value: f64) {
        let single = value as f32;
        if f64::from(single).to_bits() != value.to_bits() {
            self.out.push(0xfb);
            self.out.extend_from_slice(&value.to_bits().to_be_bytes());
        } else if let Some(half) = half_bits(single) {
            let [a, b] = half.to_be_bytes();
            self.out.extend_from_slice(&[0xf9, a, b]);
        } else {
            self.out.push(0xfa);
            self.out.extend_from_slice(&single.to_bits().to_be_bytes());
        }
    }
}

/// Returns a finite number as IEEE 754 binary16, if that keeps its value.
fn half_bits(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    let mantissa = bits & 0x007f_ffff;
    if bits & 0x7fff_ffff == 0 {
        return Some(sign);
    }
    if (-14..=15).contains(&exponent) {
        // Normal: the lower 13 of the 23 mantissa bits must be zero.
        let exact = mantissa.trailing_zeros() >= 13;
        return exact.then_some(sign | ((exponent + 15) as u16) << 10 | (mantissa >> 13) as u16);
    }
    if (-24..=-15).contains(&exponent) {
        // Subnormal: a multiple of 2^-24.
        let whole = mantissa | 0x0080_0000;
        let shift = (-1 - exponent) as u32;
        let exact = whole.trailing_zeros() >= shift;
        return exact.then_some(sign | (whole >> shift) as u16);
    }
    None
}

/// Returns the value of IEEE 754 binary16 bits.
fn half_value(bits: u16) -> f64 {
    let magnitude = match (bits >> 10 & 0x1f, bits & 0x3ff) {
        (0, mantissa) => f64::from(mantissa) / 16_777_216.0,
        (31, 0) => f64::INFINITY,
        (31, _) => f64::NAN,
        (exponent, mantissa) => {
            let fraction = u64::from(mantissa) << 42;
            f64::from_bits((u64::from(exponent) + 1008) << 52 | fraction)
        }
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// What an item is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Null,
    Bool,
    Float,
    Other,
}

/// Reads items one behind the other.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns what has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Checks that everything has been read.
    pub(crate) fn finish(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError) }
    }

    pub(crate) fn kind(&self) -> Result<Kind, CborError> {
        let first = *self.rest.first().ok_or(CborError)?;
        Ok(match (first >> 5, first) {
            (UINT | NEGATIVE, _) => Kind::Int,
            (BYTES, _) => Kind::Bytes,
            (TEXT, _) => Kind::Text,
            (ARRAY, _) => Kind::Array,
            (MAP, _) => Kind::Map,
            (TAG, _) => Kind::Tag,
            (_, 0xf4 | 0xf5) => Kind::Bool,
            (_, 0xf6) => Kind::Null,
            (_, 0xf9..=0xfb) => Kind::Float,
            _ => Kind::Other,
        })
    }

    #[inline]
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let (first, rest) = self.rest.split_first().ok_or(CborError)?;
        let (argument, rest, least) = match first & 31 {
            short @ 0..=23 => (u64::from(short), rest, 0),
            24 => rest.split_first().map(|(byte, rest)| (u64::from(*byte), rest, 24)).ok_or(CborError)?,
            25 => take(rest, |bytes| u64::from(u16::from_be_bytes(bytes)), 1 << 8)?,
            26 => take(rest, |bytes| u64::from(u32::from_be_bytes(bytes)), 1 << 16)?,
            27 => take(rest, u64::from_be_bytes, 1 << 32)?,
            _ => return Err(CborError),
        };
        if argument < least {
            return Err(CborError);
        }
        self.rest = rest;
        Ok((first >> 5, argument))
    }

    fn expect(&mut self, major: u8) -> Result<u64, CborError> {
        let (found, argument) = self.head()?;
        if found == major { Ok(argument) } else { Err(CborError) }
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError)?;
        let (content, rest) = self.rest.split_at_checked(length).ok_or(CborError)?;
        self.rest = rest;
        Ok(content)
    }

    pub(crate) fn uint(&mut self) -> Result<u64, CborError> {
        self.expect(UINT)
    }

    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, CborError> {
        self.uint()?.try_into().map_err(|_| CborError)
    }

    pub(crate) fn int(&mut self) -> Result<i128, CborError> {
        match self.head()? {
            (UINT, argument) => Ok(i128::from(argument)),
            (NEGATIVE, argument) => Ok(-1 - i128::from(argument)),
            _ => Err(CborError),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.expect(BYTES)?;
        self.slice(length)
    }

    pub(crate) fn byte_array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        self.bytes()?.try_into().map_err(|_| CborError)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.expect(TEXT)?;
        core::str::from_utf8(self.slice(length)?).map_err(|_| CborError)
    }

    pub(crate) fn array(&mut self) -> Result<u64, CborError> {
        self.expect(ARRAY)
    }

    pub(crate) fn map(&mut self) -> Result<u64, CborError> {
        self.expect(MAP)
    }

    pub(crate) fn tag(&mut self) -> Result<u64, CborError> {
        self.expect(TAG)
    }

    pub(crate) fn null(&mut self) -> Result<(), CborError> {
        if self.slice(1)? == [0xf6] { Ok(()) } else { Err(CborError) }
    }

    pub(crate) fn bool(&mut self) -> Result<bool, CborError> {
        match self.slice(1)? {
            [0xf4] => Ok(false),
            [0xf5] => Ok(true),
            _ => Err(CborError),
        }
    }

    /// Reads a finite number that stands in its shortest form.
    pub(crate) fn float(&mut self) -> Result<f64, CborError> {
        let (first, rest) = self.rest.split_first().ok_or(CborError)?;
        let (value, rest) = match first {
            0xf9 => {
                rest.split_first_chunk().map(|(bytes, rest)| (half_value(u16::from_be_bytes(*bytes)), rest))
            }
            0xfa => {
                let read = rest.split_first_chunk();
                let single = read.map(|(bytes, rest)| (f32::from_be_bytes(*bytes), rest));
                single
                    .filter(|(value, _)| half_bits(*value).is_none())
                    .map(|(value, rest)| (f64::from(value), rest))
            }
            0xfb => {
                let double = rest.split_first_chunk().map(|(bytes, rest)| (f64::from_be_bytes(*bytes), rest));
                double.filter(|(value, _)| f64::from(*value as f32).to_bits() != value.to_bits())
            }
            _ => None,
        }
        .ok_or(CborError)?;
        self.rest = rest;
        if value.is_finite() { Ok(value) } else { Err(CborError) }
    }

    /// Reads a map whose members `member` consumes, key and value; checks that the keys are sorted and unique.
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let count = self.map()?;
        let mut previous: &[u8] = &[];
        for _ in 0..count {
            let mut key = *self;
            key.skip(DEPTH_MAX)?;
            let length = self.rest.len() - key.rest.len();
            let bytes = self.rest.get(..length).ok_or(CborError)?;
            // No key is empty, so the first one is greater than the start value.
            if bytes <= previous {
                return Err(CborError);
            }
            previous = bytes;
            member(self)?;
        }
        Ok(())
    }

    /// Reads one item of any kind and checks its form.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), CborError> {
        if depth > DEPTH_MAX {
            return Err(CborError);
        }
        match self.kind()? {
            Kind::Int => self.int().map(drop),
            Kind::Bytes => self.bytes().map(drop),
            Kind::Text => self.text().map(drop),
            Kind::Array => (0..self.array()?).try_for_each(|_| self.skip(depth + 1)),
            Kind::Map => self.members(|reader| {
                reader.skip(depth + 1)?;
                reader.skip(depth + 1)
            }),
            Kind::Tag => {
                self.tag()?;
                self.skip(depth + 1)
            }
            Kind::Null => self.null(),
            Kind::Bool => self.bool().map(drop),
            Kind::Float => self.float().map(drop),
            Kind::Other => Err(CborError),
        }
    }
}

fn take<const N: usize>(
    rest: &[u8],
    value: impl Fn([u8; N]) -> u64,
    least: u64,
) -> Result<(u64, &[u8], u64), CborError> {
    let (bytes, rest) = rest.split_first_chunk().ok_or(CborError)?;
    Ok((value(*bytes), rest, least))
}
