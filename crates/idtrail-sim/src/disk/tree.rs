//! Names: directories as reads see them and as a power cut would leave them.
//!
//! Every change of names (create, rename, remove, make a directory) is one operation that waits for a sync of each
//! directory it touches. It reaches the medium whole or not at all, so a rename never leaves both names or none; a
//! rename between two directories needs both synced, which is stricter than the journals of today's file systems.
//! At a crash, each directory keeps a prefix of what it waits for, and nothing that builds on a lost operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use idtrail_port::Privacy;

use super::content::FileData;
use crate::Rng;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const ENOTEMPTY: i32 = 39;

const ROOT: NodeId = NodeId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

/// One name in one directory.
type Slot = (NodeId, String);

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug)]
pub(super) struct FileNode {
    pub(super) data: FileData,
    pub(super) privacy: Privacy,
    /// The holder of the exclusive lock.
    pub(super) lock: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    cached: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

/// One change of names that waits for the directories in `unsynced`.
#[derive(Clone, Debug)]
struct NameChange {
    slots: Vec<(Slot, Option<NodeId>)>,
    unsynced: BTreeSet<NodeId>,
}

impl NameChange {
    fn touches(&self, slots: &BTreeSet<Slot>) -> bool {
        self.slots.iter().any(|(slot, _)| slots.contains(slot))
    }
}

/// All files and directories.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    pending: Vec<NameChange>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]), next: 1, pending: Vec::new() }
    }

    pub(super) fn create_file(&mut self, path: &Path, privacy: Privacy) -> io::Result<NodeId> {
        let slot = self.slot(path)?;
        self.create(slot, Node::File(FileNode { data: FileData::default(), privacy, lock: None }))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if segments(path)?.is_empty() {
            return Err(os(EEXIST));
        }
        let slot = self.slot(path)?;
        self.create(slot, Node::Dir(DirNode::default())).map(drop)
    }

    fn create(&mut self, slot: Slot, node: Node) -> io::Result<NodeId> {
        if self.entry(&slot).is_some() {
            return Err(os(EEXIST));
        }
        let id = NodeId(self.next);
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(vec![(slot, Some(id))]);
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        let moved = self.entry(&from).ok_or_else(|| os(ENOENT))?;
        let is_dir = self.dir(moved).is_ok();
        // The order of these checks is Linux's, so that errors are those of the real disk.
        if is_dir && self.contains(moved, to.0) {
            return Err(os(EINVAL));
        }
        if let Some(replaced) = self.entry(&to) {
            if self.contains(replaced, from.0) {
                return Err(os(ENOTEMPTY));
            }
            if replaced == moved {
                return Ok(());
            }
            match (is_dir, self.dir(replaced)) {
                (false, Ok(_)) => return Err(os(EISDIR)),
                (true, Err(_)) => return Err(os(ENOTDIR)),
                (true, Ok(dir)) if !dir.cached.is_empty() => return Err(os(ENOTEMPTY)),
                _ => {}
            }
        }
        self.change(vec![(from, None), (to, Some(moved))]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let slot = self.slot(path)?;
        let id = self.entry(&slot).ok_or_else(|| os(ENOENT))?;
        self.file(id)?;
        self.change(vec![(slot, None)]);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.dir(self.find(path)?)?.cached.keys().cloned().collect())
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        let id = self.find(path)?;
        self.file(id)?;
        Ok(id)
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(os(EISDIR)),
            None => Err(os(ENOENT)),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(os(EISDIR)),
            None => Err(os(ENOENT)),
        }
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.dir(id)?;
        for change in &mut self.pending {
            change.unsynced.remove(&id);
        }
        // Whatever a synced change builds on must be there too: a file moved here, then renamed here.
        let mut needed = BTreeSet::new();
        let mut due = Vec::new();
        for (at, change) in self.pending.iter().enumerate().rev() {
            if change.unsynced.is_empty() || change.touches(&needed) {
                needed.extend(change.slots.iter().map(|(slot, _)| slot.clone()));
                due.push(at);
            }
        }
        for at in due.iter().rev() {
            self.apply(*at);
        }
        let due: BTreeSet<usize> = due.into_iter().collect();
        let mut at = 0..;
        self.pending.retain(|_| !at.next().is_some_and(|at| due.contains(&at)));
        Ok(())
    }

    /// Power cut. With a generator, a random part of what was not synced survives; without, nothing does.
    pub(super) fn crash(&mut self, mut rng: Option<&mut Rng>) {
        if let Some(rng) = rng.as_deref_mut() {
            self.flush_some_names(rng);
        }
        self.pending.clear();
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.cached.clone_from(&dir.durable),
                Node::File(file) => {
                    file.lock = None;
                    file.data.crash(rng.as_deref_mut());
                }
            }
        }
        self.forget_unreachable();
    }

    fn flush_some_names(&mut self, rng: &mut Rng) {
        let mut waiting: BTreeMap<NodeId, u64> = BTreeMap::new();
        for dir in self.pending.iter().flat_map(|change| &change.unsynced) {
            *waiting.entry(*dir).or_default() += 1;
        }
        for count in waiting.values_mut() {
            *count = rng.range(0..*count + 1);
        }
        let mut lost = BTreeSet::new();
        for at in 0..self.pending.len() {
            let Some(change) = self.pending.get(at) else { break };
            let survives = !change.touches(&lost)
                && change.unsynced.iter().all(|dir| waiting.get(dir).is_some_and(|left| *left > 0));
            for dir in &change.unsynced {
                // A prefix: behind a lost change, its directories keep nothing.
                waiting
                    .entry(*dir)
                    .and_modify(|left| *left = if survives { left.saturating_sub(1) } else { 0 });
            }
            if survives {
                self.apply(at);
            } else {
                lost.extend(change.slots.iter().map(|(slot, _)| slot.clone()));
            }
        }
    }

    /// The process died and the machine did not: the cache survives, the locks do not.
    pub(super) fn kill(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.lock = None;
            }
        }
    }

    /// Returns what a power cut that kept nothing unsynced would leave.
    pub(super) fn durable(&self) -> Self {
        let mut tree = self.clone();
        tree.crash(None);
        tree
    }

    /// Returns the paths of all files, sorted.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![(ROOT, PathBuf::from("/"))];
        while let Some((id, path)) = open.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(dir)) => {
                    open.extend(dir.cached.iter().map(|(name, id)| (*id, path.join(name))))
                }
                Some(Node::File(_)) => files.push(path),
                None => {}
            }
        }
        files.sort();
        files
    }

    pub(super) fn read_durable(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut id = ROOT;
        for name in segments(path)? {
            id = *self.dir(id)?.durable.get(name).ok_or_else(|| os(ENOENT))?;
        }
        Ok(self.file(id)?.data.durable().to_vec())
    }

    fn apply(&mut self, at: usize) {
        let Some(change) = self.pending.get(at) else { return };
        for ((dir, name), id) in &change.slots {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                match id {
                    Some(id) => dir.durable.insert(name.clone(), *id),
                    None => dir.durable.remove(name),
                };
            }
        }
    }

    fn change(&mut self, slots: Vec<(Slot, Option<NodeId>)>) {
        for ((dir, name), id) in &slots {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                match id {
                    Some(id) => dir.cached.insert(name.clone(), *id),
                    None => dir.cached.remove(name),
                };
            }
        }
        let unsynced = slots.iter().map(|((dir, _), _)| *dir).collect();
        self.pending.push(NameChange { slots, unsynced });
    }

    fn dir(&self, id: NodeId) -> io::Result<&DirNode> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(os(ENOTDIR)),
            None => Err(os(ENOENT)),
        }
    }

    fn entry(&self, (dir, name): &Slot) -> Option<NodeId> {
        self.dir(*dir).ok()?.cached.get(name).copied()
    }

    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut id = ROOT;
        for name in segments(path)? {
            id = *self.dir(id)?.cached.get(name).ok_or_else(|| os(ENOENT))?;
        }
        Ok(id)
    }

    /// Returns the directory, which must exist, and the name in it, which need not.
    fn slot(&self, path: &Path) -> io::Result<Slot> {
        let names = segments(path)?;
        let (name, parents) = names.split_last().ok_or_else(|| os(EISDIR))?;
        let mut id = ROOT;
        for parent in parents {
            id = *self.dir(id)?.cached.get(*parent).ok_or_else(|| os(ENOENT))?;
        }
        self.dir(id)?;
        Ok((id, (*name).to_owned()))
    }

    /// Tells whether `inner` is `outer` or somewhere below it.
    fn contains(&self, outer: NodeId, inner: NodeId) -> bool {
        let mut open = vec![outer];
        while let Some(id) = open.pop() {
            if id == inner {
                return true;
            }
            if let Ok(dir) = self.dir(id) {
                open.extend(dir.cached.values());
            }
        }
        false
    }

    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if reached.insert(id)
                && let Ok(dir) = self.dir(id)
            {
                open.extend(dir.cached.values());
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }
}

/// Splits a path; the root and the working directory are the same place, and a way up is refused.
fn segments(path: &Path) -> io::Result<Vec<&str>> {
    if path.as_os_str().is_empty() {
        return Err(os(ENOENT));
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or_else(|| os(EINVAL))?),
            Component::ParentDir | Component::Prefix(_) => return Err(os(EINVAL)),
        }
    }
    Ok(names)
}

fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
