"""Writes the vectors of this folder. Needs Python 3.10 and the `cryptography` package: python3 generate.py

Nothing here is taken from the Rust code: the tree is the recursive definition of RFC 6962 section 2.1, the notes are
written by hand from the C2SP texts, the signatures are made by OpenSSL. Seeds and times are fixed, so the files do
not change from run to run. Cases marked "published" come from the documents themselves, not from this script.
"""

import base64
import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = pathlib.Path(__file__).parent


def b64(data):
    return base64.b64encode(data).decode()


def sha(data):
    return hashlib.sha256(data).digest()


# RFC 6962 section 2.1


def leaf_hash(entry):
    return sha(b"\x00" + entry)


def node(left, right):
    return sha(b"\x01" + left + right)


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(hashes, memo=None, lo=0, hi=None):
    hi = len(hashes) if hi is None else hi
    if lo == hi:
        return sha(b"")
    if hi - lo == 1:
        return hashes[lo]
    if memo is not None and (lo, hi) in memo:
        return memo[lo, hi]
    k = split(hi - lo)
    root = node(mth(hashes, memo, lo, lo + k), mth(hashes, memo, lo + k, hi))
    if memo is not None:
        memo[lo, hi] = root
    return root


def path(m, hashes, memo, lo, hi):
    if hi - lo == 1:
        return []
    k = split(hi - lo)
    if m - lo < k:
        return path(m, hashes, memo, lo, lo + k) + [mth(hashes, memo, lo + k, hi)]
    return path(m, hashes, memo, lo + k, hi) + [mth(hashes, memo, lo, lo + k)]


def subproof(m, hashes, memo, lo, hi, whole):
    if m == hi - lo:
        return [] if whole else [mth(hashes, memo, lo, hi)]
    k = split(hi - lo)
    if m <= k:
        return subproof(m, hashes, memo, lo, lo + k, whole) + [mth(hashes, memo, lo + k, hi)]
    return subproof(m - k, hashes, memo, lo + k, hi, False) + [mth(hashes, memo, lo, lo + k)]


def consistency(m, n, hashes, memo):
    return [] if m in (0, n) else subproof(m, hashes, memo, 0, n, True)


# Notes


def key_id(name, kind, public):
    return sha(name.encode() + b"\n" + bytes([kind]) + public)[:4]


class Key:
    def __init__(self, name, label, kind=1):
        self.name, self.kind = name, kind
        self.seed = sha(label.encode())
        self.private = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self.private.public_key().public_bytes_raw()
        self.id = key_id(name, kind, self.public)
        self.vkey = f"{name}+{self.id.hex()}+{b64(bytes([kind]) + self.public)}"
        self.skey = f"PRIVATE+KEY+{name}+{self.id.hex()}+{b64(bytes([kind]) + self.seed)}"

    def line(self, text, time=None):
        if self.kind == 1:
            signature = self.private.sign(text.encode())
        else:
            message = f"cosignature/v1\ntime {time}\n{text}"
            signature = struct.pack(">Q", time) + self.private.sign(message.encode())
        return f"\u2014 {self.name} {b64(self.id + signature)}\n"


def flip(line, byte):
    """The same signature line with one bit of its decoded bytes changed."""
    head, data = line.rstrip("\n").rsplit(" ", 1)
    raw = bytearray(base64.b64decode(data))
    raw[byte] ^= 1
    return f"{head} {b64(bytes(raw))}\n"


def checkpoint_text(origin, size, root):
    return f"{origin}\n{size}\n{b64(root)}\n"


def write(name, what, **content):
    text = json.dumps({"what": what, **content}, indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n")


# The files

SMALL = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
SMALL = [bytes.fromhex(entry) for entry in SMALL]
LARGE = [leaf_hash(str(i).encode()) for i in range(70_000)]
MEMO = {}


def tree():
    hashes = [leaf_hash(entry) for entry in SMALL]
    sizes = [1, 2, 3, 100, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000]
    write(
        "tree",
        "Roots (RFC 6962 section 2.1). `small`: published entries and roots for sizes 0 to 8. `decimal`: entry i is the"
        " decimal text of i.",
        small={"entries": [e.hex() for e in SMALL], "roots": [mth(hashes[:n]).hex() for n in range(9)]},
        decimal=[{"size": n, "root": mth(LARGE, MEMO, 0, n).hex()} for n in sizes],
    )


def proofs():
    inclusion, consistent = [], []
    for size in (1, 2, 3, 5, 7, 8, 13, 256, 257, 70_000):
        root = mth(LARGE, MEMO, 0, size)
        for index in sorted({0, size // 3, size // 2, size - 1}):
            proof = path(index, LARGE, MEMO, 0, size)
            good = {"index": index, "size": size, "leaf": LARGE[index], "proof": proof, "root": root}
            inclusion.append({"name": f"{index} in {size}", **good, "valid": True})
            inclusion.append({"name": f"{index} in {size}, hash appended", **good, "proof": proof + [root]})
            inclusion.append({"name": f"{index} in {size}, hash prepended", **good, "proof": [root] + proof})
            inclusion.append({"name": f"{index} in {size}, index at size", **good, "index": size})
            inclusion.append({"name": f"{index} in {size}, wrong root", **good, "root": sha(b"wrong")})
            inclusion.append({"name": f"{index} in {size}, wrong leaf", **good, "leaf": sha(b"wrong")})
            inclusion.append({"name": f"{index} in {size}, size doubled", **good, "size": 2 * size})
            if proof:
                inclusion.append({"name": f"{index} in {size}, cut off", **good, "proof": proof[:-1]})
                inclusion.append({"name": f"{index} in {size}, empty", **good, "proof": []})
                inclusion.append({"name": f"{index} in {size}, index changed", **good, "index": index ^ 1})
    for old, new in ((0, 0), (0, 5), (1, 1), (1, 2), (1, 8), (2, 5), (3, 7), (4, 7), (6, 8), (7, 8), (8, 13),
                     (255, 256), (256, 257), (256, 70_000), (65_536, 65_537), (65_537, 70_000), (69_999, 70_000)):
        roots = {"old_root": mth(LARGE, MEMO, 0, old), "new_root": mth(LARGE, MEMO, 0, new)}
        proof = consistency(old, new, LARGE, MEMO)
        good = {"old": old, "new": new, **roots, "proof": proof}
        consistent.append({"name": f"{old} to {new}", **good, "valid": True})
        consistent.append({"name": f"{old} to {new}, hash appended", **good, "proof": proof + [roots["new_root"]]})
        consistent.append({"name": f"{old} to {new}, hash prepended", **good, "proof": [roots["old_root"]] + proof})
        consistent.append({"name": f"{old} to {new}, wrong old root", **good, "old_root": sha(b"wrong")})
        if old > 0:
            consistent.append({"name": f"{old} to {new}, wrong new root", **good, "new_root": sha(b"wrong")})
        if proof:
            consistent.append({"name": f"{old} to {new}, cut off", **good, "proof": proof[:-1]})
            consistent.append({"name": f"{old} to {new}, empty", **good, "proof": []})
            consistent.append({"name": f"{old} to {new}, swapped roots", **good, "old_root": roots["new_root"],
                               "new_root": roots["old_root"]})
            consistent.append({"name": f"{old} to {new}, swapped sizes", **good, "old": new, "new": old})

    def text(case):
        shown = {key: value.hex() if isinstance(value, bytes) else value for key, value in case.items()}
        return {**shown, "proof": [hash.hex() for hash in case["proof"]], "valid": case.get("valid", False)}

    write(
        "proofs",
        "Inclusion and consistency proofs (RFC 6962 section 2.1.1 and 2.1.2) over entries that are the decimal text of"
        " their index; those that are not `valid` must be refused.",
        inclusion=[text(case) for case in inclusion],
        consistency=[text(case) for case in consistent],
    )


def tile_path(kind, n, width):
    groups = [f"{n % 1000:03}"]
    while n >= 1000:
        n //= 1000
        groups.insert(0, f"x{n % 1000:03}")
    return f"tile/{kind}/{'/'.join(groups)}" + (f".p/{width}" if width < 256 else "")


def tile_list(size):
    found, level = [], 0
    while size // 256**level > 0:
        full, width = size // 256 ** (level + 1), size // 256**level % 256
        found.append({"level": level, "full": str(full), "partial_width": width})
        level += 1
    return found


def tiles():
    names = [(0, 0, 256), (0, 0, 1), (0, 999, 256), (0, 1000, 256), (0, 1_234_067, 256), (0, 1_234_067, 255),
             (1, 273, 17), (2, 0, 1), (63, 0, 256), (0, 2**56 - 1, 256)]
    write(
        "tiles",
        "Names of tiles and entry bundles, and which tiles a tree has (C2SP tlog-tiles). `sizes`: per level the count of"
        " full tiles and the width of the partial one, 0 if there is none. Numbers beyond 2^53 occur, so they are text.",
        tiles=[{"level": l, "index": str(n), "width": w, "path": tile_path(l, n, w)} for l, n, w in names],
        bundles=[{"index": str(n), "width": w, "path": tile_path("entries", n, w)} for _, n, w in names],
        bad_paths=["", "tile", "tile/", "tile/0", "tile/0/", "tile/0/1", "tile/0/0001", "tile/00/000", "tile/64/000",
                   "tile/-1/000", "tile/+1/000", "tile/8/0/000", "tile/0/x001", "tile/0/001/234", "tile/0/x001/x234",
                   "tile/0/x000/001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/",
                   "tile/0/000.p", "tile/0/000.p/1/", "tile/0/000.p/1.p/1", "/tile/0/000", "tile/0/000/",
                   "tile/0/x072/x057/x594/x037/x927/936", "tile/0/0 1", "tile/0/../000", "tile/entries/1",
                   "tile/entries/x000/001", "tile/entries/000.p/256", "tile/entries", "tile/data/000",
                   "tile/0/x999/x999/x999/x999/x999/x999/x999/999", "TILE/0/000", "tile/0/X001/234"],
        sizes=[{"size": str(s), "levels": tile_list(s)} for s in (0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000,
                                                             2**24 + 1, 2**63, 2**64 - 1)],
    )


def bundles():
    def encode(entries):
        return b"".join(struct.pack(">H", len(e)) + e for e in entries)

    cases = [[], [b""], [b"a"], [b"", b"\x00", b"abc"], SMALL]
    write(
        "bundles",
        "Entry bundles (C2SP tlog-tiles): each entry behind its length as a big-endian u16.",
        cases=[{"entries": [e.hex() for e in c], "bundle": encode(c).hex()} for c in cases],
        bad=["00", "0001", "000261", "00016100", "ffff00"],
    )


FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = ("This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Z"
            "tg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n")
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"


def notes():
    a, b, text = Key("log.example/a", "note a"), Key("log.example/b", "note b"), "one\n\ntwo\n"
    other = Key("log.example/a", "another")
    la, lb = a.line(text), b.line(text)
    unknown = "pq.example+01020304+" + b64(b"\x06" + bytes(range(40)))
    unknown_line = f"\u2014 pq.example {b64(bytes([1, 2, 3, 4, 5]))}\n"
    many = "".join(f"\u2014 x{i} AAAAAAA=\n" for i in range(100))
    cases = [
        ("published", [FOO], FOO_NOTE, ["example.com/foo"]),
        ("one signature", [a.vkey], text + "\n" + la, [a.name]),
        ("two signatures, both known", [a.vkey, b.vkey], text + "\n" + la + lb, [a.name, b.name]),
        ("two signatures, one known", [b.vkey], text + "\n" + la + lb, [b.name]),
        ("unknown signature is wrong", [b.vkey], text + "\n" + flip(la, 20) + lb, [b.name]),
        ("same name, other id is passed over", [a.vkey], text + "\n" + other.line(text) + la, [a.name]),
        ("same line twice", [a.vkey], text + "\n" + la + la, [a.name, a.name]),
        ("99 unknown lines", [a.vkey], text + "\n" + many.replace("\u2014 x0 AAAAAAA=\n", "") + la, [a.name]),
        ("known signature is wrong", [a.vkey, b.vkey], text + "\n" + flip(la, 20) + lb, "bad_signature"),
        ("second line of a known key is wrong", [a.vkey], text + "\n" + la + flip(la, 9), "bad_signature"),
        ("text changed", [a.vkey], "One\n\ntwo\n\n" + la, "bad_signature"),
        ("signature cut off", [a.vkey], text + "\n" + f"\u2014 {a.name} {b64(a.id + bytes(63))}\n", "bad_signature"),
        ("no known key", [a.vkey], text + "\n" + lb, "unsigned"),
        ("no keys", [], text + "\n" + la, "unsigned"),
        ("key of unsupported type", [unknown], text + "\n" + unknown_line, "unsupported_key"),
        ("key of unsupported type beside a good one", [unknown, a.vkey], text + "\n" + unknown_line + la, [a.name]),
        ("101 lines", [a.vkey], text + "\n" + many + la, "malformed"),
        ("empty", [a.vkey], "", "malformed"),
        ("no signatures", [a.vkey], text, "malformed"),
        ("no empty line", [a.vkey], "one\n" + la, "malformed"),
        ("no line feed at the end", [a.vkey], (text + "\n" + la).rstrip("\n"), "malformed"),
        ("empty line at the end", [a.vkey], text + "\n" + la + "\n", "malformed"),
        ("hyphen for the dash", [a.vkey], text + "\n" + la.replace("\u2014", "-"), "malformed"),
        ("control character", [a.vkey], "one\t\n\n" + a.line("one\t\n"), "malformed"),
        ("carriage return", [a.vkey], "one\r\n\n" + a.line("one\r\n"), "malformed"),
        ("two spaces", [a.vkey], text + "\n" + la.replace(a.name + " ", a.name + "  "), "malformed"),
        ("plus sign in the name", [a.vkey], text + "\n" + la + "\u2014 a+b AAAAAAA=\n", "malformed"),
        ("no-break space in the name", [a.vkey], text + "\n" + la + "\u2014 a\u00a0b AAAAAAA=\n", "malformed"),
        ("no name", [a.vkey], text + "\n" + la + "\u2014  AAAAAAA=\n", "malformed"),
        ("only an id", [a.vkey], text + "\n" + la + "\u2014 x AAAAAA==\n", "malformed"),
        ("base64 without padding", [a.vkey], text + "\n" + la.replace("=", ""), "malformed"),
        ("base64 with stray bits", [a.vkey], text + "\n" + la + "\u2014 x AAAAAAB=\n", "malformed"),
    ]
    seed = b64(b"\x01" + a.seed)
    write(
        "notes",
        "Signed notes (C2SP signed-note). `opened`: the names of the known keys that signed, in the order of the lines,"
        " or why the note is refused.",
        keys=[{"name": k.name, "seed": k.seed.hex(), "vkey": k.vkey, "private": k.skey} for k in (a, b)],
        published_pair={"private": NEUMANN_PRIVATE, "vkey": NEUMANN},
        signed=[{"private": k.skey, "text": text, "note": text + "\n" + k.line(text)} for k in (a, b)],
        kept_vkeys=[FOO, NEUMANN, a.vkey, unknown, Key("w.example", "w", 4).vkey],
        bad_vkeys=["", "a", "a+b", a.vkey[:-1], a.vkey.replace("log", "lag"), a.vkey.replace("+", " "),
                   f"+{a.id.hex()}+{b64(bytes([1]) + a.public)}", f"a b+{a.id.hex()}+{b64(bytes([1]) + a.public)}",
                   f"{a.name}+{a.id.hex().upper()}+{b64(bytes([1]) + a.public)}",
                   f"{a.name}+{a.id.hex()}+{b64(bytes([1]) + a.public[:31])}", f"{a.name}+{a.id.hex()}+",
                   f"x+{key_id('x', 1, bytes(32)).hex()}+{b64(bytes([1]) + bytes(32))}",
                   f"x+{key_id('x', 1, bytes([1]) + bytes(31)).hex()}+{b64(bytes([1, 1]) + bytes(31))}"],
        bad_private=[a.vkey, a.skey[:-4], a.skey.replace("PRIVATE", "SECRET"), a.skey.replace("log", "lag"),
                     f"PRIVATE+KEY+{a.name}+{b.id.hex()}+{seed}",
                     f"PRIVATE+KEY+{a.name}+{a.id.hex()}+{b64(bytes([4]) + a.seed)}"],
        cases=[{"name": n, "vkeys": k, "note": t, "opened": o} for n, k, t, o in cases],
    )


ROOT = sha(b"some root")


def checkpoints():
    key = Key("localhost/idtrail/4f1c9a02", "log")
    good = [(key.name, 0, sha(b"")), (key.name, 20852163, ROOT), ("a log of another kind", 2**64 - 1, ROOT)]
    root = b64(ROOT)
    text = checkpoint_text(key.name, 20852163, ROOT)
    write(
        "checkpoints",
        "Checkpoints (C2SP tlog-checkpoint): the text for each set of fields, the signed note, and texts to refuse.",
        cases=[{"origin": o, "size": str(s), "root": r.hex(), "text": checkpoint_text(o, s, r)} for o, s, r in good],
        extended={"text": text + "one\ntwo 2\n", "extensions": ["one", "two 2"]},
        signed={"seed": key.seed.hex(), "vkey": key.vkey, "size": 20852163, "root": ROOT.hex(),
                "note": text + "\n" + key.line(text)},
        bad=["", "\n", "a\n", "a\n1\n", f"a\n1\n{root}", f"\n1\n{root}\n", f"a\n01\n{root}\n", f"a\n+1\n{root}\n",
             f"a\n-1\n{root}\n", f"a\n\n{root}\n", f"a\n1 \n{root}\n", f"a\n0x1\n{root}\n", f"a\n{2**64}\n{root}\n",
             f"a\n1\n{root[:-1]}\n", f"a\n1\n{root[:-2]}B=\n" if root[-2] != "B" else f"a\n1\n{root[:-2]}C=\n",
             f"a\n1\n{root} \n", f"a\n1\n{ROOT.hex()}\n", f"a\n1\n{root}\n\n", f"a\n1\n{root}\n\nb\n",
             f"a\n1\n{root.replace('=', '')}\n", f"a\n\u0661\n{root}\n"],
    )


def cosignatures():
    log, witness = Key("log.example/a", "log"), Key("witness.example/w1", "witness 1", 4)
    text = checkpoint_text(log.name, 7, ROOT)
    time = 1_790_000_000
    line = witness.line(text, time)
    name_only = Key("witness.example/w1", "witness 1", 1)
    # The right signature over a message that names such a time, which the format does not allow.
    late = 2**63
    write(
        "cosignatures",
        "Cosignatures of type 0x04 (C2SP tlog-cosignature): the line over a checkpoint's text, and lines to refuse.",
        seed=witness.seed.hex(), vkey=witness.vkey, text=text, time=time, line=line,
        bad=[
            {"name": "bit of the signature", "line": flip(line, 40)},
            {"name": "bit of the time", "line": flip(line, 11)},
            {"name": "without a time", "line": f"\u2014 {witness.name} {b64(witness.id + bytes(64))}\n"},
            {"name": "too short for a time", "line": f"\u2014 {witness.name} {b64(witness.id + bytes(7))}\n"},
            {"name": "too long", "line": f"\u2014 {witness.name} {b64(base64.b64decode(line.split()[2]) + b'0')}\n"},
            {"name": "over another text", "line": witness.line(checkpoint_text(log.name, 8, ROOT), time)},
            {"name": "time of 2^63", "line": witness.line(text, late)},
            {"name": "note signature under the witness' id",
             "line": f"\u2014 {witness.name} {b64(witness.id + base64.b64decode(name_only.line(text).split()[2])[4:])}\n"},
        ],
    )


def policies():
    log, old, stranger = Key("log.example/a", "log"), Key("log.example/a", "old key"), Key("log.example/b", "log b")
    w = [Key(f"witness.example/w{i}", f"witness {i}", 4) for i in range(5)]
    text = checkpoint_text(log.name, 7, ROOT)
    pq = "pq.example+01020304+" + b64(b"\x06" + bytes(range(40)))
    logs, t = f"log {log.vkey}\n", 1_790_000_000
    named = "".join(f"witness W{i} {k.vkey}\n" for i, k in enumerate(w))
    two_level = (logs + named + "group X 2 W0 W1 W2\ngroup Y any W3 W4\ngroup Z all X Y\nquorum Z\n")
    note = text + "\n" + log.line(text)

    def by(*places):
        return note + "".join(w[i].line(text, t + i) for i in places)

    ok = {"ok": True, "witnessed_by": []}

    def seen(*places):
        return {"ok": True, "witnessed_by": [{"witness": f"W{i}", "time": t + i} for i in places]}

    cases = [
        ("log only", logs + "quorum none\n", note, ok),
        ("comments, blanks, urls", f"# c\n\n \t# d\n\tlog\t{log.vkey}  https://l.example/ \n quorum  none", note, ok),
        ("log only, cosigned by a stranger", logs + "quorum none\n", by(0), ok),
        ("two keys, one signed", f"log {old.vkey}\n" + logs + "quorum none\n", note, ok),
        ("two keys, both signed", f"log {old.vkey}\n" + logs + "quorum none\n", note + old.line(text), ok),
        ("two keys, one wrong", f"log {old.vkey}\n" + logs + "quorum none\n", note + flip(old.line(text), 9), "tampered"),
        ("signature wrong", logs + "quorum none\n", text + "\n" + flip(log.line(text), 30), "tampered"),
        ("size changed", logs + "quorum none\n", note.replace("\n7\n", "\n8\n"), "tampered"),
        ("origin changed", logs + "quorum none\n", note.replace("log.example/a\n7", "log.example/b\n7"), "unchecked"),
        ("no logs", "quorum none\n", note, "unchecked"),
        ("another log", f"log {stranger.vkey}\nquorum none\n", note, "unchecked"),
        ("only a newer key has signed", f"log {old.vkey}\nquorum none\n", note, "unchecked"),
        ("signed under another log's name", f"log {stranger.vkey}\n" + logs + "quorum none\n",
         text + "\n" + stranger.line(text), "unchecked"),
        ("log key of unsupported type", "log " + pq.replace("pq.example", log.name) + "\nquorum none\n", note, "unchecked"),
        ("one witness, cosigned", logs + named + "quorum W1\n", by(1), seen(1)),
        ("one witness, another cosigned", logs + named + "quorum W1\n", by(0), "quorum_not_met"),
        ("quorum none, cosigned by a pinned witness", logs + named + "quorum none\n", by(2), seen(2)),
        ("quorum none, wrong cosignature of a pinned witness", logs + named + "quorum none\n",
         note + flip(w[2].line(text, t), 30), "tampered"),
        ("two levels, met", two_level, by(0, 2, 4), seen(0, 2, 4)),
        ("two levels, all", two_level, by(4, 3, 2, 1, 0), seen(0, 1, 2, 3, 4)),
        ("two levels, one group short", two_level, by(0, 3, 4), "quorum_not_met"),
        ("two levels, other group short", two_level, by(0, 1, 2), "quorum_not_met"),
        ("two levels, none", two_level, note, "quorum_not_met"),
        ("same witness twice counts once", two_level, by(0, 0, 3), "quorum_not_met"),
        ("earliest time of a witness", logs + named + "quorum W0\n",
         note + w[0].line(text, t + 9) + w[0].line(text, t), seen(0)),
        ("log has not signed", two_level, text + "\n" + "".join(w[i].line(text, t + i) for i in range(5)), "unchecked"),
        ("unsupported witness does not count", logs + f"witness P {pq}\nquorum P\n", note, "quorum_not_met"),
        ("unsupported witness does no harm", logs + f"witness P {pq}\n" + named + "group G any P W0\nquorum G\n",
         by(0), seen(0)),
        ("not a note", logs + "quorum none\n", text, "malformed"),
        ("not a checkpoint", logs + "quorum none\n", "hello\n\n" + log.line("hello\n"), "malformed"),
    ]
    bad = [
        ("empty", "", 0), ("no quorum", logs, 0), ("two quorums", "quorum none\nquorum none\n", 2),
        ("unknown word", "foo\nquorum none\n", 1), ("log without a key", "log\nquorum none\n", 1),
        ("key is no vkey", "log a+b+c\nquorum none\n", 1), ("log line too long", f"log {log.vkey} u v\nquorum none\n", 1),
        ("log twice", logs + logs + "quorum none\n", 2),
        ("log key under another name", logs + "log " + Key("other.example", "log").vkey + "\nquorum none\n", 2),
        ("witness twice", f"witness A {w[0].vkey}\nwitness B {w[0].vkey}\nquorum none\n", 2),
        ("witness key under another name",
         f"witness A {w[0].vkey}\nwitness B {Key('other.example', 'witness 0', 4).vkey}\nquorum none\n", 2),
        ("witness name twice", f"witness A {w[0].vkey}\nwitness A {w[1].vkey}\nquorum none\n", 2),
        ("witness named none", f"witness none {w[0].vkey}\nquorum none\n", 1),
        ("witness with a key for notes", f"witness A {log.vkey}\nquorum none\n", 1),
        ("group without members", "group G any\nquorum none\n", 1),
        ("group of an undefined name", "group G any A\nquorum none\n", 1),
        ("group of itself", "group G any G\nquorum none\n", 1),
        ("group of none", "group G any none\nquorum none\n", 1),
        ("group named as a witness", named + "group W0 any W1\nquorum none\n", 6),
        ("group needs nobody", named + "group G 0 W0\nquorum none\n", 6),
        ("group needs too many", named + "group G 3 W0 W1\nquorum none\n", 6),
        ("group rule with a sign", named + "group G +1 W0 W1\nquorum none\n", 6),
        ("group rule is a word", named + "group G some W0 W1\nquorum none\n", 6),
        ("member twice", named + "group G any W0 W0\nquorum none\n", 6),
        ("member of two groups", named + "group G any W0\ngroup H any W0 W1\nquorum none\n", 7),
        ("quorum of an undefined name", "quorum A\n", 1), ("quorum before its witness", f"quorum A\nwitness A {w[0].vkey}\n", 1),
        ("quorum of a log", logs + f"quorum {log.name}\n", 2),
        ("carriage return", "quorum none\r\n", 1), ("form feed", "quorum\x0cnone\n", 1), ("delete", "# \x7f\nquorum none\n", 1),
    ]
    write(
        "policies",
        "Policies (C2SP tlog-policy) and what they say of a signed checkpoint: ok with the pinned witnesses that cosigned,"
        " in the order of the policy, or the verdict. `bad`: files to refuse, with the line (0: the file as a whole).",
        cases=[{"name": n, "policy": p, "note": c, "outcome": o} for n, p, c, o in cases],
        bad=[{"name": n, "policy": p, "line": l} for n, p, l in bad],
    )


def proof_files():
    key, size, index = Key("localhost/idtrail/4f1c9a02", "log"), 70_000, 65_536
    hashes, root = path(index, LARGE, MEMO, 0, size), mth(LARGE, MEMO, 0, size)
    text = checkpoint_text(key.name, size, root)
    note = text + "\n" + key.line(text)
    single = checkpoint_text(key.name, 1, LARGE[0])
    single_note = single + "\n" + key.line(single)
    policy = f"log {key.vkey}\nquorum none\n"

    def file(extra, index, hashes, note):
        lines = ["c2sp.org/tlog-proof@v1"] + ([f"extra {b64(extra)}"] if extra is not None else []) + [f"index {index}"]
        return "\n".join(lines + [b64(h) for h in hashes]) + "\n\n" + note

    good = file(None, index, hashes, note)
    leaf = LARGE[index].hex()
    cases = [
        ("one of 70,000", None, index, hashes, note), ("with extra data", b"agent-\xff\x00", index, hashes, note),
        ("with empty extra data", b"", index, hashes, note), ("only entry", None, 0, [], single_note),
    ]
    swapped = hashes[1::-1] + hashes[2:]
    judged = [
        ("good", good, leaf, "ok"), ("wrong leaf", good, LARGE[0].hex(), "tampered"),
        ("index changed", file(None, index + 1, hashes, note), leaf, "tampered"),
        ("index at size", file(None, size, hashes, note), leaf, "tampered"),
        ("hashes swapped", file(None, index, swapped, note), leaf, "tampered"),
        ("hash missing", file(None, index, hashes[:-1], note), leaf, "tampered"),
        ("hash added", file(None, index, hashes + [root], note), leaf, "tampered"),
        ("checkpoint of another tree", file(None, index, hashes, single_note), leaf, "tampered"),
        ("checkpoint's size changed", good.replace("\n70000\n", "\n70001\n"), leaf, "tampered"),
        ("checkpoint of an unknown log", good.replace("4f1c9a02\n70000", "4f1c9a03\n70000"), leaf, "unchecked"),
        ("checkpoint cut off", good[:-20], leaf, "malformed"),
    ]
    bad = [
        ("empty", "", "malformed"), ("another first line", good.replace("c2sp", "c3sp"), "malformed"),
        ("version 2", good.replace("@v1", "@v2"), "version"), ("version 10", good.replace("@v1", "@v10"), "version"),
        ("no checkpoint", good.split("\n\n")[0] + "\n", "malformed"),
        ("no index", good.replace(f"index {index}\n", ""), "malformed"),
        ("index with a zero", good.replace("index 6", "index 06"), "malformed"),
        ("index with a sign", good.replace("index 6", "index +6"), "malformed"),
        ("index beyond 64 bits", good.replace("index 65536", f"index {2**64}"), "malformed"),
        ("extra behind the index", good.replace("index 65536\n", "index 65536\nextra AA==\n"), "malformed"),
        ("two extras", good.replace("index 6", "extra AA==\nextra AA==\nindex 6"), "malformed"),
        ("extra is no base64", good.replace("index 6", "extra A\nindex 6"), "malformed"),
        ("extra without padding", good.replace("index 6", "extra AA\nindex 6"), "malformed"),
        ("hash too short", good.replace(b64(hashes[0]), b64(hashes[0][:31])), "malformed"),
        ("space behind a hash", good.replace(b64(hashes[0]), b64(hashes[0]) + " "), "malformed"),
        ("carriage returns", good.replace("\n", "\r\n"), "malformed"),
        ("64 hashes", file(None, index, [root] * 64, note), "malformed"),
    ]
    write(
        "proof_files",
        "Proof files (C2SP tlog-proof): fields and text, what `policy` says of them for a leaf hash, and texts to refuse."
        " Entries are the decimal text of their index.",
        policy=policy,
        cases=[{"name": n, "extra": None if e is None else e.hex(), "index": i, "hashes": [h.hex() for h in hs],
                "checkpoint": c, "text": file(e, i, hs, c)} for n, e, i, hs, c in cases],
        judged=[{"name": n, "text": t, "leaf": l, "outcome": o} for n, t, l, o in judged],
        bad=[{"name": n, "text": t, "error": e} for n, t, e in bad],
    )


for part in (tree, proofs, tiles, bundles, notes, checkpoints, cosignatures, policies, proof_files):
    part()
