//! A vault on a simulated disk, with one copy and two anchors, and the state that each test compares with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_port::{Disk, Open, Privacy, create_dir_durable};
use idtrail_sim::{Seed, SimDisk, SimEntropy};
use idtrail_vault::{Epoch, Kek, KeyError, Keyring, Section, Sections, Vault, VaultError, VaultPaths};

pub(crate) const ORIGIN: &str = "localhost/idtrail/4f1c9a02";
pub(crate) const ANCHORS: [&str; 2] = ["/anchor-a/cell", "/anchor-b/cell"];
pub(crate) const BODY_DIRS: [&str; 2] = ["/data/vault", "/copy/vault"];
/// The indices that [`shred`] destroys, and some that it does not.
pub(crate) const SHREDDED: [u64; 3] = [0, 7, 19_999_999];
pub(crate) const KEPT: [u64; 4] = [1, 6, 8, (1 << 40) - 1];

pub(crate) struct Rig {
    pub(crate) disk: SimDisk,
    pub(crate) entropy: SimEntropy,
    pub(crate) paths: VaultPaths,
}

impl Rig {
    pub(crate) fn new(disk: SimDisk, seed: Seed) -> Self {
        let paths = VaultPaths {
            body_dir: BODY_DIRS[0].into(),
            copies: vec![BODY_DIRS[1].into()],
            anchors: ANCHORS.map(PathBuf::from).to_vec(),
        };
        Self { disk, entropy: SimEntropy::new(seed), paths }
    }

    /// A disk with a new vault, closed again.
    pub(crate) fn created() -> Self {
        let rig = Self::new(SimDisk::default(), Seed::new(1));
        rig.create().unwrap();
        rig
    }

    pub(crate) fn create(&self) -> Result<Vault, VaultError> {
        Vault::create(
            Arc::new(self.disk.clone()),
            Arc::new(self.entropy.clone()),
            self.paths.clone(),
            kek(),
            "tenant-a",
            ORIGIN,
        )
    }

    pub(crate) fn open(&self) -> Result<Vault, VaultError> {
        self.open_with(kek(), None)
    }

    pub(crate) fn open_with(&self, kek: Kek, epoch_min: Option<Epoch>) -> Result<Vault, VaultError> {
        Vault::open(
            Arc::new(self.disk.clone()),
            Arc::new(self.entropy.clone()),
            self.paths.clone(),
            kek,
            epoch_min,
        )
    }

    /// Puts a file there, whatever was there before, as an operator or a thief would.
    pub(crate) fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        let dir = path.parent().unwrap();
        create_dir_durable(&self.disk, dir).unwrap();
        self.remove(path);
        let file = self.disk.open(path, Open::CreateNew(Privacy::Owner)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        self.disk.sync_dir(dir).unwrap();
    }

    pub(crate) fn remove(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        if self.disk.exists(path).unwrap() {
            self.disk.remove(path).unwrap();
            self.disk.sync_dir(path.parent().unwrap()).unwrap();
        }
    }

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        self.disk.read_durable(path).unwrap()
    }

    /// Returns all files with their bytes as they are durable, but not the lock.
    pub(crate) fn dump(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.disk.durable_files().into_iter().filter(|path| !path.ends_with("lock"));
        files.map(|path| (path.clone(), self.read(path))).collect()
    }
}

pub(crate) fn kek() -> Kek {
    Kek::new([0x4b; 32]).unwrap()
}

pub(crate) fn body(dir: &str, epoch: u64) -> PathBuf {
    Path::new(dir).join(format!("body-{epoch:020}"))
}

pub(crate) fn shred(vault: &mut Vault) -> Result<Epoch, VaultError> {
    vault.puncture_indices(ORIGIN, &SHREDDED, Sections::Both)
}

/// Every secret of a vault that a test looks at, named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State(Vec<(String, Result<[u8; 32], KeyError>)>);

impl State {
    pub(crate) fn of(vault: &Vault) -> Self {
        let mut state = Vec::new();
        for (name, secret) in
            [("dedupe", vault.dedupe_key()), ("index", vault.index_key()), ("issuer", vault.issuer_seed())]
        {
            state.push((name.to_owned(), Ok(*secret.expose())));
        }
        for version in vault.pepper_versions() {
            state.push((format!("pepper {version}"), Ok(*vault.pepper_at(version).unwrap().expose())));
        }
        for origin in vault.origins() {
            state.push((format!("{origin} signing"), Ok(*vault.signing_seed(origin).unwrap().expose())));
            for (name, key) in keys(&vault.keyring(origin).unwrap()) {
                state.push((format!("{origin} {name}"), key));
            }
        }
        Self(state)
    }

    /// Returns the state after [`shred`].
    pub(crate) fn shredded(&self) -> Self {
        let shredded =
            |name: &str| SHREDDED.iter().any(|index| name.starts_with(&format!("{ORIGIN} leaf {index}/")));
        Self(
            self.0
                .iter()
                .map(|(name, key)| {
                    (name.clone(), if shredded(name) { Err(KeyError::Punctured) } else { *key })
                })
                .collect(),
        )
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.0.iter().filter_map(|(_, key)| key.as_ref().ok())
    }
}

fn keys(keyring: &Keyring) -> Vec<(String, Result<[u8; 32], KeyError>)> {
    let mut keys = Vec::new();
    let mut cursor = keyring.cursor();
    for index in SHREDDED.into_iter().chain(KEPT) {
        for section in [Section::Event, Section::Staff] {
            let key = keyring.index_secret(index, section).map(|key| *key.expose());
            assert_eq!(cursor.secret(index, section).map(|key| *key.expose()), key);
            keys.push((format!("leaf {index}/{section:?}"), key));
        }
    }
    for class in [1, 2, 7] {
        for month in [681, 682] {
            let key = keyring.class_secret(class, month);
            assert_eq!(keyring.class_secret(class, month), key, "cached");
            keys.push((format!("class {class} month {month}"), key.map(|key| *key.expose())));
        }
    }
    keys
}
