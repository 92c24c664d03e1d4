//! The published vectors in `vectors/vault`, made without this code.

use std::ops::Range;

use idtrail_port::create_dir_durable;
use idtrail_sim::{Seed, SimDisk};
use idtrail_vault::{Epoch, HighWater, Kek, KeyTree, Secret32, Section, TreeKind, high_water_path};
use serde_json::Value;

use crate::rig::{ANCHORS, BODY_DIRS, Rig};

const GGM: &str = include_str!("../../../../vectors/vault/ggm.json");
const FILES: &str = include_str!("../../../../vectors/vault/files.json");

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().as_bytes();
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn secret(value: &Value) -> Secret32 {
    Secret32::new(unhex(value).try_into().unwrap())
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let items = value[name].as_array().unwrap();
    assert!(!items.is_empty());
    items
}

fn tree(case: &Value) -> KeyTree {
    let kind = match case["tree"].as_str().unwrap() {
        "I" => TreeKind::Index,
        "P" => TreeKind::Period,
        other => panic!("unknown tree {other}"),
    };
    KeyTree::from_root(kind, &secret(&case["root"]))
}

#[test]
fn keys_of_both_trees() {
    let vectors: Value = serde_json::from_str(GGM).unwrap();
    for case in items(&vectors, "keys") {
        let (tree, leaf) = (tree(case), case["leaf"].as_u64().unwrap());
        assert_eq!(tree.derive(leaf), Some(secret(&case["key"])));
        assert_eq!(tree.cursor().derive(leaf), Some(secret(&case["key"])));
    }
}

#[test]
fn encodings_of_punctured_trees() {
    let vectors: Value = serde_json::from_str(GGM).unwrap();
    for case in items(&vectors, "trees") {
        let mut tree = tree(case);
        let ranges: Vec<Range<u64>> = case["punctured"]
            .as_array()
            .unwrap()
            .iter()
            .map(|range| range[0].as_u64().unwrap()..range[1].as_u64().unwrap())
            .collect();
        tree.puncture(&ranges).unwrap();
        let mut bytes = Vec::new();
        tree.encode(&mut bytes);
        assert_eq!(bytes, unhex(&case["encoded"]), "{ranges:?}");
        assert_eq!(KeyTree::decode(&bytes).unwrap().node_count(), tree.node_count());
    }
}

#[test]
fn a_whole_vault_from_its_files() {
    let vectors: Value = serde_json::from_str(FILES).unwrap();
    let rig = Rig::new(SimDisk::default(), Seed::new(1));
    let mut cell = unhex(&vectors["anchor_slot"]);
    cell.resize(8192, 0);
    rig.put(ANCHORS[0], &cell);
    let name = vectors["body_name"].as_str().unwrap();
    rig.put(format!("{}/{name}", BODY_DIRS[0]), &unhex(&vectors["body"]));
    let kek = Kek::from_file_bytes(vectors["kek"].as_str().unwrap().as_bytes()).unwrap();
    let vault = rig.open_with(kek, None).unwrap();

    assert_eq!(vault.epoch(), Epoch::new(vectors["epoch"].as_u64().unwrap()));
    let holds = &vectors["holds"];
    assert_eq!(vault.tenant(), holds["tenant"].as_str().unwrap());
    assert_eq!(vault.dedupe_key(), secret(&holds["dedupe_key"]));
    assert_eq!(vault.index_key(), secret(&holds["index_key"]));
    assert_eq!(vault.issuer_seed(), secret(&holds["issuer_seed"]));
    let peppers = holds["peppers"].as_object().unwrap();
    assert_eq!(vault.pepper_versions().count(), peppers.len());
    for (version, pepper) in peppers {
        assert_eq!(vault.pepper_at(version.parse().unwrap()), Some(secret(pepper)));
    }
    let origins = items(holds, "origins");
    let names: Vec<_> = origins.iter().map(|origin| origin["name"].as_str().unwrap()).collect();
    assert_eq!(vault.origins().collect::<Vec<_>>(), names);
    for (origin, name) in origins.iter().zip(names) {
        assert_eq!(vault.signing_seed(name), Some(secret(&origin["signing_seed"])));
        let keyring = vault.keyring(name).unwrap();
        let optional = |value: &Value| (!value.is_null()).then(|| secret(value));
        for case in items(origin, "index_secrets") {
            let index = case["index"].as_u64().unwrap();
            assert_eq!(keyring.index_secret(index, Section::Event).ok(), optional(&case["event"]));
            assert_eq!(keyring.index_secret(index, Section::Staff).ok(), optional(&case["staff"]));
        }
        for case in items(origin, "class_secrets") {
            let (class, month) = (case["class"].as_u64().unwrap(), case["month"].as_u64().unwrap());
            let found = keyring.class_secret(class.try_into().unwrap(), month.try_into().unwrap());
            assert_eq!(found.ok(), optional(&case["secret"]));
        }
    }
    drop(vault);
    // The second cell and the copy were made from them; the body is carried over byte for byte.
    assert_eq!(rig.read(format!("{}/{name}", BODY_DIRS[1])), unhex(&vectors["body"]));
    assert_eq!(rig.read(ANCHORS[0]), cell);
    assert_eq!(rig.read(ANCHORS[1]).len(), 8192);
}

#[test]
fn a_high_water_file() {
    let vectors: Value = serde_json::from_str(FILES).unwrap();
    let rig = Rig::new(SimDisk::default(), Seed::new(1));
    let text = vectors["high_water"].as_str().unwrap();
    rig.put(high_water_path(ANCHORS[0].as_ref()), text.as_bytes());
    create_dir_durable(&rig.disk, "/anchor-b".as_ref()).unwrap();
    let mut marks = HighWater::open(std::sync::Arc::new(rig.disk.clone()), &rig.paths.anchors).unwrap();
    assert_eq!(marks.size("localhost/idtrail/4f1c9a02"), 12_345_678_901);
    marks.raise(&[]).unwrap();
    assert_eq!(rig.read(high_water_path(ANCHORS[1].as_ref())), text.as_bytes());
}
