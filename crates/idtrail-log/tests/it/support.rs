//! A log of plain texts: what is asked is appended, and the same text again is answered with its first index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use idtrail_log::commit::{Answer, Commit, Committer};
use idtrail_log::machine::{Decision, Entry, Machine, Moment, Planned, SealFailure, Sealer};
use idtrail_log::recovery::{self, Opened, Options};
use idtrail_log::sequence::{ReceiptClock, Sequencer, Submission};
use idtrail_log::{LogError, fsck};
use idtrail_port::Disk;
use idtrail_sim::{SimClock, SimDisk};
use idtrail_tlog::{Hash, LogIndex, Policy, SignerKey, TreeSize, leaf_hash};

pub(crate) const ORIGIN: &str = "example.com/log";
pub(crate) const SEGMENT_BYTES: u64 = 64 * 1024;

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

pub(crate) fn signer() -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[42; 32]).unwrap()
}

pub(crate) fn policy() -> Policy {
    Policy::log_only(signer().verifier())
}

#[derive(Default)]
pub(crate) struct Texts {
    seen: BTreeMap<Vec<u8>, LogIndex>,
}

impl Machine for Texts {
    type Command = Vec<u8>;
    type Draft = Vec<u8>;
    type Facts = LogIndex;
    type Refusal = ();

    fn decide(&mut self, command: Vec<u8>, at: Moment) -> Decision<Vec<u8>, LogIndex, ()> {
        if command.is_empty() {
            return Decision::Refuse(());
        }
        if let Some(index) = self.seen.get(&command) {
            return Decision::Existing(*index);
        }
        self.seen.insert(command.clone(), at.next);
        Decision::Append(vec![Planned { draft: command, facts: at.next }])
    }

    fn bytes_max(command: &Vec<u8>) -> usize {
        command.len()
    }
}

pub(crate) struct Plain;

impl Sealer<Vec<u8>> for Plain {
    fn seal(&mut self, _: LogIndex, drafts: &[&Vec<u8>]) -> Result<Vec<Entry>, SealFailure> {
        Ok(drafts.iter().map(|draft| Entry::new((*draft).clone())).collect())
    }
}

pub(crate) struct TestLog {
    pub(crate) sequencer: Sequencer<Texts, Plain>,
    pub(crate) committer: Committer,
    pub(crate) opened: Opened,
}

pub(crate) fn create(disk: &SimDisk) {
    recovery::create(disk, &dir(), ORIGIN, SEGMENT_BYTES).unwrap();
}

pub(crate) fn open(disk: &SimDisk) -> Result<TestLog, LogError> {
    open_known(disk, 0)
}

pub(crate) fn open_known(disk: &SimDisk, known: u64) -> Result<TestLog, LogError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let dir = dir();
    let options =
        Options { dir: &dir, origin: ORIGIN, segment_bytes: SEGMENT_BYTES, known_size: TreeSize::new(known) };
    let mut machine = Texts::default();
    let (committer, opened) = recovery::open(&shared, &options, Box::new(signer()), &mut |index, entry| {
        machine.seen.insert(entry.to_vec(), index);
        Ok(())
    })?;
    let clock = ReceiptClock::start(Arc::new(SimClock::default()), 0);
    let sequencer = Sequencer::new(machine, Plain, clock, LogIndex::new(opened.size.get()));
    Ok(TestLog { sequencer, committer, opened })
}

/// What a client keeps of an acknowledged text.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) text: Vec<u8>,
    pub(crate) index: LogIndex,
    pub(crate) commit: Option<Arc<Commit>>,
}

impl TestLog {
    /// Appends texts in one group and returns what was acknowledged.
    pub(crate) fn append(&mut self, texts: &[Vec<u8>]) -> Result<Vec<Acknowledged>, LogError> {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let group = texts
            .iter()
            .map(|text| {
                let (acknowledged, text) = (Arc::clone(&acknowledged), text.clone());
                Submission::<Texts> {
                    command: text.clone(),
                    reply: Box::new(move |outcome| match outcome {
                        Ok(Answer::Appended { commit, first, .. }) => {
                            let commit = Some(commit);
                            acknowledged.lock().unwrap().push(Acknowledged { text, index: first, commit });
                        }
                        Ok(Answer::Existing(index)) => {
                            acknowledged.lock().unwrap().push(Acknowledged { text, index, commit: None });
                        }
                        Ok(Answer::Refused(())) | Err(_) => {}
                    }),
                }
            })
            .collect();
        let sealed = self.sequencer.step(group)?;
        self.committer.commit(vec![sealed])?;
        self.committer.flush_tiles(true)?;
        Ok(Arc::try_unwrap(acknowledged).unwrap().into_inner().unwrap())
    }

    pub(crate) fn size(&self) -> u64 {
        self.committer.reader().size().get()
    }

    pub(crate) fn root(&self) -> Hash {
        self.committer.reader().head().root
    }
}

/// Checks that an acknowledged text stands where it was promised, now and by the proof that the client kept.
pub(crate) fn check_kept(log: &TestLog, kept: &Acknowledged) {
    let reader = log.committer.reader();
    assert_eq!(reader.entry(kept.index).unwrap(), kept.text, "entry {}", kept.index);
    let leaf = leaf_hash(&kept.text);
    let size = reader.size();
    let proof = reader.inclusion_proof(kept.index, size).unwrap();
    idtrail_tlog::verify_inclusion(kept.index, size, &leaf, &proof, &log.root()).unwrap();
    if let Some(commit) = &kept.commit {
        let then = commit.proof(kept.index).unwrap().verify(&leaf, &policy()).unwrap().checkpoint;
        let consistency = reader.consistency_proof(then.size, size).unwrap();
        idtrail_tlog::verify_consistency(then.size, size, &then.root, &log.root(), &consistency).unwrap();
    }
}

pub(crate) fn check_disk(disk: &SimDisk, dir: &Path) -> fsck::Report {
    fsck::check(disk, dir, ORIGIN, &[], &mut |_, _| Ok(()), &mut |_, _| {}).unwrap()
}

pub(crate) fn text(number: u64, bytes: usize) -> Vec<u8> {
    let mut text = format!("text {number} ").into_bytes();
    while text.len() < bytes {
        text.push(b'a' + (number % 26) as u8);
    }
    text
}
