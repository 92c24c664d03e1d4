//! What a verifier trusts (C2SP tlog-policy): log keys, witness keys, and how many of them must have signed.
//!
//! In goes a policy file, out come verdicts about checkpoints. A file has lines `log <vkey> [url]`, `witness
//! <name> <vkey> [url]`, `group <name> all|any|<k> <member>…` and exactly one `quorum <name>|none`; names are
//! defined before they are used, and a name is a member of one group at most, so that a witness counts once.
//! The name of a log's key is its origin. A policy is configuration: it is never learned from the material
//! that it judges.
//!
//! A key that appears twice is refused even under two names: one witness must not be able to make a quorum
//! alone.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::ErrorKind;
use crate::hash::decimal;
use crate::key::{ED25519, VerifierKey};
use crate::note::{Note, NoteError};
use crate::refusal::Refusal;

/// Logs, witnesses and groups that a policy may have, of each.
const ITEMS_MAX: usize = 1_024;

/// Why a policy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot be used: {what}. line={line}")]
pub struct PolicyError {
    /// What is wrong.
    pub what: &'static str,
    /// The line, from 1; 0 if no single line is meant.
    pub line: usize,
}

impl PolicyError {
    /// Returns what the caller must do: `Invalid`.
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// A trusted log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, whose name is the log's origin.
    pub key: VerifierKey,
    /// Where it can be reached.
    pub url: Option<String>,
}

/// A trusted witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name within the policy.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where it can be reached.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    needed: usize,
    members: Vec<Member>,
}

/// What a name stands for: a place in the list of witnesses or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// A cosignature that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The witness' name in the policy.
    pub witness: String,
    /// When it saw the checkpoint first: its own claim, in seconds since 1970.
    pub time_s: u64,
}

/// A checkpoint that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The pinned key of the log that signed it; its name is the origin.
    pub log_key: VerifierKey,
    /// The pinned witnesses that cosigned it, in the order of the policy. May be more than the quorum asks
    /// for.
    pub witnessed_by: Vec<Witnessed>,
}

/// A policy. `Display` writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

impl Policy {
    /// Returns a policy that trusts one log key and asks for no witness.
    pub fn log_only(key: VerifierKey) -> Self {
        let logs = alloc::vec![PolicyLog { key, url: None }];
        Self { logs, witnesses: Vec::new(), groups: Vec::new(), quorum: None }
    }

    /// Trusts one more log key.
    ///
    /// # Errors
    /// [`PolicyError`] if the key is there already, or no more fit.
    pub fn add_log(&mut self, key: VerifierKey, url: Option<String>) -> Result<(), PolicyError> {
        self.push_log(key, url).map_err(|what| PolicyError { what, line: 0 })
    }

    /// Returns the trusted logs in the order of the file.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// Returns the trusted witnesses in the order of the file.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Tells whether a checkpoint needs cosignatures.
    pub fn asks_for_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self { logs: Vec::new(), witnesses: Vec::new(), groups: Vec::new(), quorum: None };
        let mut has_quorum = false;
        for (number, line) in text.split('\n').enumerate() {
            policy.read_line(line, &mut has_quorum).map_err(|what| PolicyError { what, line: number + 1 })?;
        }
        if !has_quorum {
            return Err(PolicyError { what: "there is no quorum line", line: 0 });
        }
        Ok(policy)
    }

    fn read_line(&mut self, line: &str, has_quorum: &mut bool) -> Result<(), &'static str> {
        if line.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err("it holds a control character");
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.push_log(parse_key(key)?, None),
            ["log", key, url] => self.push_log(parse_key(key)?, Some((*url).to_owned())),
            ["witness", name, key] => self.push_witness(name, parse_key(key)?, None),
            ["witness", name, key, url] => self.push_witness(name, parse_key(key)?, Some((*url).to_owned())),
            ["group", name, rule, members @ ..] => self.push_group(name, rule, members),
            ["quorum", _] if *has_quorum => Err("there is a second quorum line"),
            ["quorum", name] => {
                *has_quorum = true;
                self.quorum = if *name == "none" { None } else { Some(self.find(name).ok_or(UNDEFINED)?) };
                Ok(())
            }
            _ => Err("it is not a log, witness, group or quorum line"),
        }
    }

    fn push_log(&mut self, key: VerifierKey, url: Option<String>) -> Result<(), &'static str> {
        if self.logs.iter().any(|log| log.key.public_bytes() == key.public_bytes()) {
            return Err("the log key is there already");
        }
        if self.logs.len() == ITEMS_MAX {
            return Err("there are too many logs");
        }
        self.logs.push(PolicyLog { key, url });
        Ok(())
    }

    fn push_witness(
        &mut self,
        name: &str,
        key: VerifierKey,
        url: Option<String>,
    ) -> Result<(), &'static str> {
        self.check_new_name(name)?;
        if key.signature_type() == ED25519 {
            return Err("the witness key is of the type for notes, not for cosignatures");
        }
        if self.witnesses.iter().any(|witness| witness.key.public_bytes() == key.public_bytes()) {
            return Err("the witness key is there already");
        }
        if self.witnesses.len() == ITEMS_MAX {
            return Err("there are too many witnesses");
        }
        self.witnesses.push(PolicyWitness { name: name.to_owned(), key, url });
        Ok(())
    }

    fn push_group(&mut self, name: &str, rule: &str, names: &[&str]) -> Result<(), &'static str> {
        self.check_new_name(name)?;
        if self.groups.len() == ITEMS_MAX {
            return Err("there are too many groups");
        }
        let mut members = Vec::with_capacity(names.len().min(ITEMS_MAX));
        for member in names {
            let member = self.find(member).ok_or(UNDEFINED)?;
            if members.contains(&member) || self.groups.iter().any(|group| group.members.contains(&member)) {
                return Err("a member is in a group already");
            }
            members.push(member);
        }
        let needed = match rule {
            "any" => Some(1),
            "all" => Some(members.len()),
            count => decimal(count).and_then(|count| usize::try_from(count).ok()),
        };
        let needed = needed.ok_or("the rule of a group is any, all or a number")?;
        if needed == 0 || needed > members.len() {
            return Err("a group needs at least one and at most all of its members");
        }
        self.groups.push(Group { name: name.to_owned(), needed, members });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Member> {
        let witness = self.witnesses.iter().position(|witness| witness.name == name).map(Member::Witness);
        witness.or_else(|| self.groups.iter().position(|group| group.name == name).map(Member::Group))
    }

    fn check_new_name(&self, name: &str) -> Result<(), &'static str> {
        if name == "none" || self.find(name).is_some() {
            return Err("the name is taken");
        }
        Ok(())
    }

    /// Checks a signed checkpoint: a pinned key of its own origin must have signed, no signature by that
    /// log's pinned keys or a pinned witness may be wrong, and the quorum must be met.
    ///
    /// # Errors
    /// [`Refusal`] with the reason; its `verdict()` tells tampering from a check that could not be made.
    pub fn open_checkpoint(&self, note: &[u8]) -> Result<VerifiedCheckpoint, Refusal> {
        let note = Note::parse(note).map_err(Refusal::Note)?;
        let (checkpoint, log_key) = Checkpoint::open_note(&note, self.logs.iter().map(|log| &log.key))?;
        let mut witnessed_by = Vec::new();
        let mut cosigned = Vec::with_capacity(self.witnesses.len());
        for PolicyWitness { name, key, .. } in &self.witnesses {
            let time_s = match note.open([key]) {
                Ok(valid) => valid.iter().filter_map(|signature| signature.time_s).min(),
                Err(NoteError::Unsigned | NoteError::UnsupportedKey { .. }) => None,
                Err(_) => return Err(Refusal::WitnessSignature { witness: name.clone() }),
            };
            cosigned.push(time_s.is_some());
            witnessed_by.extend(time_s.map(|time_s| Witnessed { witness: name.clone(), time_s }));
        }
        if !self.is_met(&cosigned) {
            let unsupported = self.witnesses.iter().filter(|witness| !witness.key.is_supported()).count();
            return Err(Refusal::Quorum { cosigned: witnessed_by.len(), unsupported });
        }
        Ok(VerifiedCheckpoint { checkpoint, log_key: log_key.clone(), witnessed_by })
    }

    /// Tells whether the witnesses that have cosigned, by their places, make up the quorum.
    fn is_met(&self, cosigned: &[bool]) -> bool {
        // Members are defined before their group, so one pass in order decides every group.
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        let holds = |member: &Member, groups: &[bool]| match member {
            Member::Witness(at) => cosigned.get(*at).copied().unwrap_or(false),
            Member::Group(at) => groups.get(*at).copied().unwrap_or(false),
        };
        for group in &self.groups {
            let count = group.members.iter().filter(|member| holds(member, &groups)).count();
            groups.push(count >= group.needed);
        }
        self.quorum.is_none_or(|quorum| holds(&quorum, &groups))
    }

    fn name(&self, member: Member) -> &str {
        let name = match member {
            Member::Witness(at) => self.witnesses.get(at).map(|witness| &witness.name),
            Member::Group(at) => self.groups.get(at).map(|group| &group.name),
        };
        name.expect("members are made from places in the lists, which never shrink")
    }
}

const UNDEFINED: &str = "a name was not defined before";

fn parse_key(text: &str) -> Result<VerifierKey, &'static str> {
    VerifierKey::parse(text).map_err(|_| "the key is not a vkey")
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |f: &mut fmt::Formatter<'_>, url: &Option<String>| match url {
            Some(url) => writeln!(f, " {url}"),
            None => writeln!(f),
        };
        for log in &self.logs {
            write!(f, "log {}", log.key)?;
            end(f, &log.url)?;
        }
        for witness in &self.witnesses {
            write!(f, "witness {} {}", witness.name, witness.key)?;
            end(f, &witness.url)?;
        }
        for group in &self.groups {
            write!(f, "group {} {}", group.name, group.needed)?;
            group.members.iter().try_for_each(|member| write!(f, " {}", self.name(*member)))?;
            writeln!(f)?;
        }
        writeln!(f, "quorum {}", self.quorum.map_or("none", |quorum| self.name(quorum)))
    }
}
