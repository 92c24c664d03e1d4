//! What a verifier trusts: log keys, witness keys, and how many of them must have signed (C2SP tlog-policy).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::{CosignatureError, verify_cosignature};
use crate::note::{COSIGNATURE_ED25519, ED25519, Note, NoteError, VerifierKey};
use crate::proof::ProofError;

/// Why a policy file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot be used: {what}. line={line}")]
pub struct PolicyError {
    /// What is wrong.
    pub what: &'static str,
    /// The line, from 1; 0 if the file as a whole is meant.
    pub line: usize,
}

/// Why a checkpoint or proof was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No key of this log is pinned: nothing can be said about it.
    #[error("no key of this log is pinned. origin={origin}")]
    UnknownOrigin {
        /// The log's name.
        origin: String,
    },
    /// A pinned key has a type that this program cannot check.
    #[error("a pinned key cannot be used")]
    Unusable(#[source] NoteError),
    /// The bytes are not a signed note.
    #[error(transparent)]
    Note(NoteError),
    /// The note's text is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A pinned witness' cosignature is wrong.
    #[error("the cosignature of a pinned witness is wrong. witness={name}")]
    BadCosignature {
        /// The witness' name in the policy.
        name: String,
        /// What is wrong.
        #[source]
        source: CosignatureError,
    },
    /// Too few of the pinned witnesses have cosigned.
    #[error("too few witnesses have cosigned this checkpoint. cosigned={cosigned}")]
    Quorum {
        /// How many have.
        cosigned: usize,
    },
    /// The proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl Refusal {
    /// Tells whether the refusal speaks of altered bytes (true), or only of something missing for a check (false).
    pub fn is_tampering(&self) -> bool {
        !matches!(self, Refusal::UnknownOrigin { .. } | Refusal::Unusable(_) | Refusal::Quorum { .. })
    }
}

/// A checkpoint that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Witnesses that cosigned, by their names in the policy, with the time in seconds since 1970.
    pub witnessed: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Witness {
    name: String,
    key: VerifierKey,
    url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    needed: usize,
    members: Vec<String>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    logs: Vec<(VerifierKey, Option<String>)>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<String>,
}

impl Policy {
    /// Returns a policy that trusts the given log keys and asks for no witness.
    pub fn log_only(keys: impl IntoIterator<Item = VerifierKey>) -> Self {
        Self { logs: keys.into_iter().map(|key| (key, None)).collect(), ..Self::default() }
    }

    /// Returns the pinned log keys.
    pub fn log_keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.logs.iter().map(|(key, _)| key)
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        let mut quorum_seen = false;
        for (number, line) in text.lines().enumerate() {
            let fail = |what| PolicyError { what, line: number + 1 };
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", key, url @ ..] if url.len() <= 1 => {
                    let key = VerifierKey::parse(key).map_err(|_| fail("the log key is not a vkey"))?;
                    policy.logs.push((key, url.first().map(|url| (*url).to_owned())));
                }
                ["witness", name, key, url @ ..] if url.len() <= 1 => {
                    policy.check_new_name(name).map_err(fail)?;
                    let key = VerifierKey::parse(key).map_err(|_| fail("the witness key is not a vkey"))?;
                    let url = url.first().map(|url| (*url).to_owned());
                    policy.witnesses.push(Witness { name: (*name).to_owned(), key, url });
                }
                ["group", name, rule, members @ ..] if !members.is_empty() => {
                    policy.check_new_name(name).map_err(fail)?;
                    policy.add_group(name, rule, members).map_err(fail)?;
                }
                ["quorum", name] => {
                    if quorum_seen {
                        return Err(fail("there is a second quorum line"));
                    }
                    quorum_seen = true;
                    if *name != "none" {
                        policy.check_known(name).map_err(fail)?;
                        policy.quorum = Some((*name).to_owned());
                    }
                }
                _ => return Err(fail("it is not a log, witness, group or quorum line")),
            }
        }
        if !quorum_seen {
            return Err(PolicyError { what: "there is no quorum line", line: 0 });
        }
        Ok(policy)
    }

    fn check_new_name(&self, name: &str) -> Result<(), &'static str> {
        if name == "none" || self.check_known(name).is_ok() {
            return Err("the name is taken");
        }
        Ok(())
    }

    fn check_known(&self, name: &str) -> Result<(), &'static str> {
        let known = self.witnesses.iter().any(|witness| witness.name == name)
            || self.groups.iter().any(|group| group.name == name);
        if known { Ok(()) } else { Err("the name was not defined before") }
    }

    fn add_group(&mut self, name: &str, rule: &str, members: &[&str]) -> Result<(), &'static str> {
        for (position, member) in members.iter().enumerate() {
            self.check_known(member)?;
            let taken = self.groups.iter().flat_map(|group| &group.members).any(|other| other == member);
            if taken || members.iter().take(position).any(|other| other == member) {
                return Err("a member is in a group already");
            }
        }
        let needed = match rule {
            "any" => 1,
            "all" => members.len(),
            count => count.parse().map_err(|_| "the rule of a group is any, all or a number")?,
        };
        if needed == 0 || needed > members.len() {
            return Err("a group needs at least one and at most all of its members");
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(Group { name: name.to_owned(), needed, members });
        Ok(())
    }

    /// Checks a signed checkpoint: a pinned key of its own origin must have signed, no pinned signature may be wrong,
    /// and the quorum must be met.
    ///
    /// # Errors
    /// [`Refusal`] with the reason.
    pub fn verify_checkpoint(&self, bytes: &[u8]) -> Result<Verified, Refusal> {
        let note = Note::parse(bytes).map_err(Refusal::Note)?;
        let (checkpoint, _) = Checkpoint::parse(&note.text)?;
        let keys: Vec<&VerifierKey> = self.log_keys().filter(|key| key.name() == checkpoint.origin).collect();
        if keys.is_empty() {
            return Err(Refusal::UnknownOrigin { origin: checkpoint.origin });
        }
        if let Some(key) = keys.iter().find(|key| key.kind() != ED25519) {
            let (name, kind) = (key.name().to_owned(), key.kind());
            return Err(Refusal::Unusable(NoteError::UnsupportedKey { name, kind }));
        }
        note.verify(keys).map_err(Refusal::Note)?;
        let witnessed = self.cosigned(&note)?;
        if let Some(quorum) = &self.quorum
            && !self.met(quorum, &witnessed)
        {
            return Err(Refusal::Quorum { cosigned: witnessed.len() });
        }
        Ok(Verified { checkpoint, witnessed })
    }

    fn cosigned(&self, note: &Note) -> Result<Vec<(String, u64)>, Refusal> {
        let mut witnessed = Vec::new();
        for witness in self.witnesses.iter().filter(|witness| witness.key.kind() == COSIGNATURE_ED25519) {
            let key = &witness.key;
            for line in
                note.signatures.iter().filter(|line| line.name == key.name() && line.id == key.key_id())
            {
                let time = verify_cosignature(key, &note.text, line)
                    .map_err(|source| Refusal::BadCosignature { name: witness.name.clone(), source })?;
                witnessed.push((witness.name.clone(), time));
            }
        }
        Ok(witnessed)
    }

    fn met(&self, name: &str, witnessed: &[(String, u64)]) -> bool {
        match self.groups.iter().find(|group| group.name == name) {
            // Members were defined before their group, so this recursion ends.
            Some(group) => {
                group.members.iter().filter(|member| self.met(member, witnessed)).count() >= group.needed
            }
            None => witnessed.iter().any(|(witness, _)| witness == name),
        }
    }
}

impl core::fmt::Display for Policy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let tail = |url: &Option<String>| url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        for (key, url) in &self.logs {
            writeln!(f, "log {key}{}", tail(url))?;
        }
        for witness in &self.witnesses {
            writeln!(f, "witness {} {}{}", witness.name, witness.key, tail(&witness.url))?;
        }
        for group in &self.groups {
            writeln!(f, "group {} {} {}", group.name, group.needed, group.members.join(" "))?;
        }
        writeln!(f, "quorum {}", self.quorum.as_deref().unwrap_or("none"))
    }
}
