//! From normal forms to sightings: the token under the newest key, and every other token of the same value.
//!
//! A value may be known under several tokens: of an older pepper (rotation by dual reading), of a variant, or of a hash
//! that another system had computed. Whoever shows the raw value proves that they are one. A legacy hash that comes
//! without its value is hashed again under our key before anything keeps it, because it can be inverted by trying all
//! numbers.

use std::collections::BTreeSet;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use idtrail_event::{IdentifierToken, IdentifierType, Pepper, RawIdentifier, TokenKey, TokenStart, token};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::model::{Assurance, Identifier, Sighting};
use crate::normalise::{Normal, Refusal, Secret};

/// The algorithm of a legacy hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LegacyAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Bytes of the longest legacy hash.
const HASH_BYTES_MAX: usize = 64;

impl LegacyAlgorithm {
    /// Returns the bytes of a hash.
    const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => HASH_BYTES_MAX,
        }
    }
}

/// How the value was written before it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegacyFormat {
    /// The canonical form: E.164, the lower-case address, issuer and number.
    Canonical,
    /// `tel:` and E.164.
    TelUri,
    /// Digits only, with country code.
    Digits,
    /// The account number without its issuer.
    WithoutIssuer,
}

/// How the hash is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LegacyEncoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64, with or without padding, either alphabet.
    Base64,
}

/// A way in which another system hashes identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyHashSpec {
    /// Its name: 1 to 64 bytes without control characters. It is part of the tokens and never changes.
    pub id: String,
    /// The type of identifier.
    pub kind: u16,
    /// The algorithm.
    pub algorithm: LegacyAlgorithm,
    /// What is hashed: `{value}` and `{salt}` are replaced.
    pub template: String,
    /// The formats in which values were hashed.
    pub formats: Vec<LegacyFormat>,
    /// How the hash is written.
    pub encoding: LegacyEncoding,
}

/// The keys and legacy specifications of one tenant. Secrets are wiped when dropped.
pub struct TokenKeys {
    tenant: String,
    /// Newest first.
    peppers: Vec<Keys>,
    legacy: Vec<Legacy>,
}

/// A legacy specification, with its template cut at the value and the salt put in.
struct Legacy {
    spec: LegacyHashSpec,
    before: Secret,
    behind: Secret,
}

/// A pepper, with the keys of what comes in by the thousand, as hashes in events: of each type, and of the hashes of each
/// specification, in their order.
struct Keys {
    pepper: Pepper,
    derived: Vec<TokenKey>,
    hashes: Vec<TokenStart>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKeys(…)")
    }
}

/// Why keys or specifications make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeysError {
    /// There is no pepper.
    #[error("at least one pepper is needed")]
    NoPepper,
    /// An id is empty, too long, not plain or not unique.
    #[error("id of a legacy hash specification is not usable")]
    SpecId,
    /// A template lacks `{value}`, or there is no format.
    #[error("template or formats of a legacy hash specification are not usable")]
    SpecTemplate,
}

impl TokenKeys {
    /// Wraps the peppers, newest first, and the legacy specifications with their salts.
    ///
    /// # Errors
    /// [`TokenKeysError`].
    pub fn new(
        tenant: &str,
        peppers: Vec<Pepper>,
        legacy: Vec<(LegacyHashSpec, Zeroizing<String>)>,
    ) -> Result<Self, TokenKeysError> {
        if peppers.is_empty() {
            return Err(TokenKeysError::NoPepper);
        }
        for (at, (spec, _)) in legacy.iter().enumerate() {
            let before = legacy.get(..at).unwrap_or_default();
            let usable = (1..=64).contains(&spec.id.len()) && !spec.id.chars().any(char::is_control);
            if !usable || before.iter().any(|(other, _)| other.id == spec.id) {
                return Err(TokenKeysError::SpecId);
            }
            if spec.template.matches("{value}").count() != 1 || spec.formats.is_empty() {
                return Err(TokenKeysError::SpecTemplate);
            }
        }
        let kinds: BTreeSet<u16> = legacy.iter().map(|(spec, _)| spec.kind).collect();
        let keys = |pepper: Pepper| {
            let key = |kind| TokenKey::new(&pepper, tenant, IdentifierType::new(kind));
            let start = |(spec, _): &(LegacyHashSpec, _)| {
                let start = legacy_start(spec);
                key(spec.kind).starting_with(&start, start.len() + 2 * spec.algorithm.bytes())
            };
            let (derived, hashes) =
                (kinds.iter().map(|kind| key(*kind)).collect(), legacy.iter().map(start).collect());
            Keys { pepper, derived, hashes }
        };
        let peppers = peppers.into_iter().map(keys).collect();
        let cut = |(spec, salt): (LegacyHashSpec, Zeroizing<String>)| {
            let (before, behind) = spec.template.split_once("{value}").unwrap_or_default();
            let salted = |part: &str| Secret::new(part.replace("{salt}", &salt));
            Legacy { before: salted(before), behind: salted(behind), spec }
        };
        Ok(Self { tenant: tenant.to_owned(), peppers, legacy: legacy.into_iter().map(cut).collect() })
    }

    fn token(&self, keys: &Keys, raw: &RawIdentifier) -> IdentifierToken {
        match keys.derived.iter().find(|key| key.kind() == raw.kind()) {
            Some(key) => key.token(raw),
            None => token(&keys.pepper, &self.tenant, raw),
        }
    }

    fn newest(&self) -> &Keys {
        self.peppers.first().expect("new() refuses an empty list")
    }

    /// Returns the token of a value under the newest pepper.
    pub fn identifier(&self, normal: &Normal) -> Identifier {
        let raw = normal.identifier();
        Identifier { kind: normal.kind(), token: self.token(self.newest(), &raw) }
    }

    /// Returns how a value was seen: its token, and as aliases its tokens under older peppers, of its variants, and of
    /// its legacy hashes. The caller vouches that the source showed the raw value.
    pub fn sighting(&self, normal: &Normal, assurance: Assurance) -> Sighting {
        let identifier = self.identifier(normal);
        let mut aliases = Vec::new();
        let mut values = vec![normal.identifier()];
        values.extend(normal.variants());
        for legacy in self.legacy.iter().filter(|legacy| legacy.spec.kind == normal.kind().number()) {
            for format in &legacy.spec.formats {
                let Some(written) = write(&normal.value, *format) else { continue };
                let [start, written] = written;
                let parts = [legacy.before.as_str(), start, written, legacy.behind.as_str()];
                values.push(legacy_identifier(&legacy.spec, &hash(legacy.spec.algorithm, parts)));
            }
        }
        for pepper in &self.peppers {
            for value in &values {
                let token = self.token(pepper, value);
                if token != identifier.token && !aliases.contains(&token) {
                    aliases.push(token);
                }
            }
        }
        Sighting { identifier, assurance, aliases }
    }

    /// Returns how the folded form of a mail address was seen.
    pub fn folded(&self, normal: &Normal) -> Option<Sighting> {
        let raw = normal.folded()?;
        Some(Sighting::new(raw.kind(), self.token(self.newest(), &raw), Assurance::CLAIMED))
    }

    /// Returns the names of the legacy specifications of a type.
    pub fn legacy_specs(&self, kind: IdentifierType) -> impl Iterator<Item = &str> {
        let of_kind = self.legacy.iter().filter(move |legacy| legacy.spec.kind == kind.number());
        of_kind.map(|legacy| legacy.spec.id.as_str())
    }

    /// Returns how a legacy hash without its value was seen, hashed again under our key. Its assurance is NETWORK at most:
    /// whoever knows the salt can make such hashes.
    ///
    /// # Errors
    /// [`Refusal::Namespace`] if there is no such specification; [`Refusal::Malformed`] if the hash is not of its length
    /// and encoding.
    pub fn legacy_sighting(
        &self,
        spec: &str,
        written: &str,
        assurance: Assurance,
    ) -> Result<Sighting, Refusal> {
        let found = self.legacy.iter().enumerate().find(|(_, legacy)| legacy.spec.id == spec);
        let (at, Legacy { spec, .. }) = found.ok_or(Refusal::Namespace)?;
        let written = written.trim();
        let mut digits = [0; 2 * HASH_BYTES_MAX];
        let digits = digits.get_mut(..2 * spec.algorithm.bytes()).unwrap_or_default();
        if spec.encoding == LegacyEncoding::Hex
            && written.len() == digits.len()
            && written.bytes().fold(true, |hex, byte| hex & matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            // As it is written nearly always, it is what would be written again.
            digits.copy_from_slice(written.as_bytes());
        } else {
            let bytes = decode(spec.encoding, written).ok_or(Refusal::Malformed("encoding"))?;
            // A hash that was cut is found by chance: two people may have the same.
            if bytes.len() != spec.algorithm.bytes() {
                return Err(Refusal::Malformed("length"));
            }
            HEXLOWER.encode_mut(&bytes, digits);
        }
        let mut tokens =
            self.peppers.iter().filter_map(|pepper| pepper.hashes.get(at)).map(|start| start.token(digits));
        let token = tokens.next().expect("new() refuses an empty list");
        Ok(Sighting {
            identifier: Identifier { kind: IdentifierType::new(spec.kind), token },
            assurance: assurance.min(Assurance::NETWORK),
            aliases: tokens.collect(),
        })
    }
}

/// A legacy hash as something to be hashed.
fn legacy_identifier(spec: &LegacyHashSpec, hash: &[u8]) -> RawIdentifier {
    let value = format!("{}{}", legacy_start(spec), HEXLOWER.encode(hash));
    RawIdentifier::from_normal_form(IdentifierType::new(spec.kind), value)
}

/// What stands before a hash of this kind. Canonical forms never begin with a zero byte, so none is the same.
fn legacy_start(spec: &LegacyHashSpec) -> String {
    format!("\0legacy\0{}\0", spec.id)
}

fn write(value: &Secret, format: LegacyFormat) -> Option<[&str; 2]> {
    Some(match format {
        LegacyFormat::Canonical => ["", value.as_str()],
        LegacyFormat::TelUri => ["tel:", value.as_str()],
        LegacyFormat::Digits => ["", value.strip_prefix('+')?],
        LegacyFormat::WithoutIssuer => ["", value.split_once(':')?.1],
    })
}

fn hash(algorithm: LegacyAlgorithm, parts: [&str; 4]) -> Vec<u8> {
    fn of<D: Digest>(parts: [&str; 4]) -> Vec<u8> {
        parts.iter().fold(D::new(), |hash, part| hash.chain_update(part)).finalize().to_vec()
    }
    match algorithm {
        LegacyAlgorithm::Sha256 => of::<Sha256>(parts),
        LegacyAlgorithm::Sha512 => of::<Sha512>(parts),
    }
}

fn decode(encoding: LegacyEncoding, written: &str) -> Option<Vec<u8>> {
    match encoding {
        LegacyEncoding::Hex => HEXLOWER_PERMISSIVE.decode(written.as_bytes()).ok(),
        LegacyEncoding::Base64 => {
            let bytes = written.as_bytes();
            let padded = BASE64.decode(bytes).or_else(|_| BASE64_NOPAD.decode(bytes));
            padded.or_else(|_| BASE64URL_NOPAD.decode(bytes)).ok()
        }
    }
}
