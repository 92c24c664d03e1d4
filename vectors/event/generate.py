"""Writes the vectors of this folder. Needs Python 3.10 and the `cryptography` package: python3 generate.py

Nothing here is taken from the Rust code: tokens, CBOR, key derivation and sealing are written from docs/spec/leaf.md
with hashlib, hmac and OpenSSL's AES-GCM. Secrets, nonces and times are fixed, so the files do not change from run to
run. The two samples identity-resolution.json and data-deletion.json are published in a guide to audit trails for
contact centres; the tokens called "published" are those of the project's specification.
"""

import hashlib
import hmac
import json
import pathlib
import re
import struct
from datetime import datetime, timezone

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).parent


def save(name, value):
    text = json.dumps(value, indent=2, ensure_ascii=False)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hkdf(ikm, salt, info, length=32):
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    okm, block, counter = b"", b"", 1
    while len(okm) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        okm += block
        counter += 1
    return okm[:length]


# Tokens


def token(pepper, tenant, kind, value):
    tenant, value, kind = tenant.encode(), value.encode(), struct.pack(">H", kind)
    key = hkdf(pepper, tenant, b"idtrail/id-key/v1" + kind)
    frame = b"idtrail.id.v1\0" + struct.pack(">H", len(tenant)) + tenant + kind + struct.pack(">I", len(value)) + value
    return hmac.new(key, frame, hashlib.sha256).hexdigest()


def tokens():
    pepper = bytes(range(32))
    published = {
        (1, "+14155552671"): "03506f7eef06cbb3ba714da082afdae20c80036b900c250b93fbc3b813f04a0d",
        (2, "jane.doe@example.com"): "951f3313f14da26465ea917f4b934e79d8d1031f9b5e537eba93a4d44bddb585",
        (3, "crm:000123456"): "5f0801f5e954ab0334e2992e36cc9f548d0d67b42f7cb6c785c9998d25d14be1",
    }
    cases = []
    for (kind, value), expected in published.items():
        assert token(pepper, "tenant-a", kind, value) == expected
        cases.append((pepper, "tenant-a", kind, value, "published"))
    cases += [
        (pepper, "tenant-b", 1, "+14155552671", "another tenant"),
        (pepper, "tenant-a", 2, "+14155552671", "another type"),
        (bytes(32), "tenant-a", 1, "+14155552671", "another pepper"),
        (pepper, "tenant-a", 300, "żółw@example.pl", "a type of two bytes, and text beyond ASCII"),
        (pepper, "", 1, "", "nothing at all"),
        (pepper, "t" * 64, 3, "x" * 300, "longer than a block of the hash"),
    ]
    save(
        "tokens.json",
        [
            {"note": note, "pepper": p.hex(), "tenant": t, "type": k, "value": v, "token": token(p, t, k, v)}
            for p, t, k, v, note in cases
        ],
    )


# Deterministic CBOR


def head(major, value):
    if value < 24:
        return bytes([major << 5 | value])
    for code, form, limit in ((24, ">B", 8), (25, ">H", 16), (26, ">I", 32), (27, ">Q", 64)):
        if value < 1 << limit:
            return bytes([major << 5 | code]) + struct.pack(form, value)
    raise ValueError(value)


def uint(value):
    return head(0, value)


def integer(value):
    return head(0, value) if value >= 0 else head(1, -1 - value)


def bstr(value):
    return head(2, len(value)) + value


def tstr(value):
    value = value.encode()
    return head(3, len(value)) + value


def array(*items):
    return head(4, len(items)) + b"".join(items)


def cbor_map(members):
    """Members are pairs of encoded key and encoded value."""
    return head(5, len(members)) + b"".join(key + value for key, value in sorted(members))


def tag(number, item):
    return head(6, number) + item


def floating(value):
    for code, form in ((0xF9, ">e"), (0xFA, ">f")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.pack(">d", struct.unpack(form, packed)[0]) == struct.pack(">d", value):
            return bytes([code]) + packed
    return b"\xfb" + struct.pack(">d", value)


# The event

EVENT = (
    "eventType timestamp interactionId channelType resolvedCustomerId resolutionSource piiContext complianceFlags "
    "agentId queueId deletionReason requestId status agentName supervisorId staffId identity actor systems "
    "rulesetVersion schemaVersion resolutionMethod piiCollected"
).split()
PII_CONTEXT = "phoneHash emailHash accountNumberHash hashScheme".split()
COMPLIANCE_FLAGS = "gdprConsentRecorded dataSubjectRequestPending".split()
STAFF = {"agentId", "agentName", "supervisorId", "staffId"}
TYPES = {
    "IDENTITY_RESOLUTION": 1, "ANONYMOUS": 2, "CONSENT_CHANGE": 3, "DATA_DELETION": 4, "IDENTITY_MERGE": 16,
    "IDENTITY_SPLIT": 17, "IDENTITY_CONFLICT": 18, "IDENTIFIER_STATE": 19, "IDENTITY_PROMOTION": 20,
    "STEWARD_ASSERTION": 21, "RULESET_CHANGE": 22, "ANONYMIZATION": 23, "CLASS_TABLE": 32, "ORIGIN_START": 33,
    "SHRED_INTENT": 34, "KEY_SHREDDED": 35, "STRAGGLER_ERASED": 36, "SUPPRESSION_HIT": 37,
}  # fmt: skip
CHANNELS = {
    "VOICE": 1, "CHAT": 2, "EMAIL": 3, "MESSAGE": 4, "SMS": 5, "SOCIAL": 6, "CALLBACK": 7, "VIDEO": 8, "WEB": 9,
}  # fmt: skip
PREFIXES = ["i-", "cust_hash_", "q-", "cust_", "conv-", "agent-", "urn:uuid:", "sha256:"]
TAG_ID = 0x69647472
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def epoch(text):
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp())
    except ValueError:
        return None  # not a date, or the year 0000, which Python does not know and no vector uses


def prefixed(prefix, item):
    if not prefix:
        return item
    name = uint(PREFIXES.index(prefix)) if prefix in PREFIXES else tstr(prefix)
    return tag(TAG_ID, array(name, item))


def string(text):
    if match := re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{3}))?Z", text, re.ASCII):
        seconds = epoch(match[1])
        if seconds is not None and match[2] is None:
            return tag(1, integer(seconds))
        if seconds is not None:
            members = [(uint(1), integer(seconds)), (integer(-3), uint(int(match[2])))]
            return tag(1001, cbor_map(members))
    if re.fullmatch(r"gc_[a-z2-7]{26}", text):
        bits = 0
        for character in text[3:]:
            bits = bits << 5 | BASE32.index(character)
        if bits & 3 == 0:
            return tag(TAG_ID, bstr((bits >> 2).to_bytes(16, "big")))
    prefix = r"((?s:.*)[_:-])?"
    for pattern, form in ((UUID, True), (r"(?:[0-9a-f]{2}){16,}", False)):
        if match := re.fullmatch(prefix + "(" + pattern + ")", text):
            before = match[1] or ""
            if not before or 2 <= len(before.encode()) <= 16:
                content = bytes.fromhex(match[2].replace("-", ""))
                return prefixed(before, tag(37, bstr(content)) if form else bstr(content))
    return tstr(text)


def value(item, registry=()):
    if item is None:
        return b"\xf6"
    if item is True or item is False:
        return b"\xf5" if item else b"\xf4"
    if isinstance(item, int):
        return integer(item)
    if isinstance(item, float):
        return floating(item)
    if isinstance(item, str):
        return string(item)
    if isinstance(item, list):
        return array(*(value(entry) for entry in item))
    members = []
    for name, entry in item.items():
        key = uint(registry.index(name) + 1) if name in registry else tstr(name)
        if registry is EVENT and name == "eventType" and isinstance(entry, str):
            encoded = uint(TYPES[entry]) if entry in TYPES else tstr(entry)
        elif registry is EVENT and name == "channelType" and isinstance(entry, str):
            encoded = uint(CHANNELS[entry]) if entry in CHANNELS else tstr(entry)
        elif registry is EVENT and name == "piiContext":
            encoded = value(entry, PII_CONTEXT)
        elif registry is EVENT and name == "complianceFlags":
            encoded = value(entry, COMPLIANCE_FLAGS)
        else:
            encoded = value(entry)
        members.append((key, encoded))
    return cbor_map(members)


def is_staff(name, entry):
    return name in STAFF and entry is not None


def parts(body):
    """The public members as pairs of key and value, and the staff map."""
    event = body["auditEvent"]
    public = [(uint(0), value({n: v for n, v in event.items() if not is_staff(n, v)}, EVENT))]
    outer = {name: entry for name, entry in body.items() if name != "auditEvent"}
    if outer:
        public.append((uint(1), value(outer)))
    staff = {name: entry for name, entry in event.items() if is_staff(name, entry)}
    return public, value(staff, EVENT) if staff else None


# The leaf


def pad(content):
    return content + bytes(-len(content) % 32)


def leaf_key(index, klass, iv, origin):
    return hkdf(index + klass, iv, b"idtrail/leaf/v1" + origin.encode())


def commitment(key, iv):
    return sha(b"idtrail/kc/v1", key, iv)


def encrypt0(key, iv, private, content, alg=3, unprotected=b"\xa0"):
    protected = cbor_map([(integer(1), integer(alg)), (integer(5), bstr(iv)), (integer(-65537), private)])
    aad = array(tstr("Encrypt0"), bstr(protected), bstr(b""))
    sealed = AESGCM(key).encrypt(iv, content, aad)
    return array(bstr(protected), unprotected, bstr(sealed))


def event_header(case, kc, version=1):
    h = case["header"]
    items = [uint(version)] + [uint(h[name]) for name in ("type", "hour", "source", "channel", "class")] + [bstr(kc)]
    return array(*items, *([bytes.fromhex(h["clear"])] if h["clear"] else []))


def content_of(case, public, staff_section):
    d = case["decided"]
    members = list(public)
    members.append((uint(2), uint(d["received_ms"])))
    if d["subject"]:
        members.append((uint(3), bstr(bytes.fromhex(d["subject"]))))
    members.append((uint(4), bstr(bytes.fromhex(d["event_id"]))))
    members.append((uint(5), tstr(d["system"])))
    dedupe = [uint(d["dedupe"]["kind"])]
    if "text" in d["dedupe"]:
        dedupe.append(tstr(d["dedupe"]["text"]))
    if "bytes" in d["dedupe"]:
        dedupe.append(bstr(bytes.fromhex(d["dedupe"]["bytes"])))
    members.append((uint(6), array(*dedupe)))
    if staff_section:
        members.append((uint(7), bstr(staff_section)))
    members.append((uint(8), uint(d["subject_sequence"])))
    if d["previous_index"] is not None:
        members.append((uint(9), uint(d["previous_index"])))
    if d["actor"]:
        members.append((uint(10), tstr(d["actor"])))
    return members


def keys_of(case):
    s = {name: bytes.fromhex(secret) for name, secret in case["secrets"].items()}
    ivs = [bytes.fromhex(iv) for iv in case["ivs"]]
    event = leaf_key(s["index_event"], s["class"], ivs[0], case["origin"])
    staff = leaf_key(s["index_staff"], s["class"], ivs[1], case["origin"])
    return ivs, event, staff


def seal(case):
    ivs, event_key, staff_key = keys_of(case)
    public, staff = parts(json.loads(case["body"]))
    section = None
    if staff:
        section = encrypt0(staff_key, ivs[1], array(uint(1), bstr(commitment(staff_key, ivs[1]))), pad(staff))
    content = cbor_map(content_of(case, public, section))
    private = event_header(case, commitment(event_key, ivs[0]))
    leaf = encrypt0(event_key, ivs[0], private, pad(content))
    frame = b"".join(struct.pack(">I", len(part)) + part for part in (cbor_map(public), staff or b""))
    return {
        "public": cbor_map(public).hex(),
        "staff": staff.hex() if staff else None,
        "content_frame_sha256": sha(frame).hex(),
        "content": content.hex(),
        "event_key": event_key.hex(),
        "event_commitment": commitment(event_key, ivs[0]).hex(),
        "staff_key": staff_key.hex() if staff else None,
        "leaf": leaf.hex(),
        "leaf_hash": sha(b"\0", leaf).hex(),
    }


GUIDE_RESOLUTION = (HERE / "identity-resolution.json").read_text(encoding="utf-8")
GUIDE_DELETION = (HERE / "data-deletion.json").read_text(encoding="utf-8")
STAFFED = """{
  "auditEvent": {
    "eventType": "IDENTITY_RESOLUTION", "timestamp": "2026-03-01T08:15:30.250Z",
    "interactionId": "8f14e45f-ceea-467f-a0e6-b1c2d3e4f5a6", "channelType": "voice",
    "resolvedCustomerId": "gc_aaaqeayeaudaocajbifqydiob4", "resolutionSource": "Digital-Email",
    "resolutionMethod": "EXACT", "piiCollected": true,
    "agentId": "agent-6ba7b810-9dad-11d1-80b4-00c04fd430c8", "agentName": "Zoë Müller", "supervisorId": null,
    "score": 0.97, "attempts": 3, "delta": -0.0, "note": "naïve ☃", "big": 18446744073709551615,
    "nested": {"b": [1, 1.0, 1.5, -9223372036854775808, 1e300, 0.1], "aa": {}, "a": []}
  },
  "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  "schema": {"version": 2}
}"""
ORIGIN_START = """{"auditEvent": {"eventType": "ORIGIN_START", "timestamp": "2026-01-31T23:59:59Z"}}"""


def leaves():
    secrets = {
        "index_event": bytes(range(32)).hex(),
        "index_staff": bytes(range(32, 64)).hex(),
        "class": bytes(range(64, 96)).hex(),
    }
    ivs = ["101112131415161718191a1b", "202122232425262728292a2b"]
    subject = "000102030405060708090a0b0c0d0e0f"

    def case(name, body, header, received_ms, **decided):
        kind, source, channel, klass, clear = header
        usual = {
            "received_ms": received_ms, "subject": subject, "event_id": "f0e0d0c0b0a090807060504030201000",
            "system": "genesys-prod", "actor": None, "dedupe": {"kind": 0}, "subject_sequence": 0,
            "previous_index": None,
        }  # fmt: skip
        entry = {
            "name": name, "origin": "localhost/idtrail/4f1c9a02", "secrets": secrets, "ivs": ivs, "body": body,
            "header": {
                "type": kind, "hour": received_ms // 3_600_000, "source": source, "channel": channel,
                "class": klass, "clear": clear,
            },
            "decided": usual | decided,
        }  # fmt: skip
        entry["expect"] = seal(entry)
        return entry

    checkpoint = "localhost/idtrail/00000001\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    previous = array(tstr("localhost/idtrail/00000001"), tstr(checkpoint)).hex()
    cases = [
        case("guide IDENTITY_RESOLUTION", GUIDE_RESOLUTION, (1, 1, 1, 1, None), 1_698_417_001_234),
        case(
            "guide DATA_DELETION", GUIDE_DELETION, (4, 2, 0, 4, None), 1_698_418_801_234,
            dedupe={"kind": 2, "text": "4:/crm42"}, subject_sequence=1, previous_index=0,
        ),
        case(
            "staff, outer members, every kind of number", STAFFED, (1, 1, 1, 1, None), 1_772_352_930_500,
            dedupe={"kind": 1, "text": "8e03978e-40d5-43dd-bc93-6894a57f9324"}, subject_sequence=70_000,
            previous_index=5_000_000_000, actor="dpo@control-room",
        ),
        case(
            "ORIGIN_START with a clear item", ORIGIN_START, (33, 4, 0, 6, previous), 1_769_903_999_000,
            subject=None, system="idtrail", dedupe={"kind": 4, "bytes": "00ff"},
        ),
    ]  # fmt: skip
    save("leaves.json", cases)
    return cases


# Leaves that must not be read or opened


def refusals(case):
    good = bytes.fromhex(case["expect"]["leaf"])
    ivs, key, _ = keys_of(case)
    kc = commitment(key, ivs[0])
    public, _ = parts(json.loads(case["body"]))
    members = content_of(case, public, None)
    content = pad(cbor_map(members))
    private = event_header(case, kc)

    def made(content=content, private=private, **options):
        return encrypt0(key, ivs[0], private, content, **options)

    def without(number):
        return pad(cbor_map([member for member in members if member[0] != uint(number)]))

    header_items = [uint(case["header"][name]) for name in ("type", "hour", "source", "channel", "class")]
    protected = cbor_map([(integer(1), integer(3)), (integer(5), bstr(ivs[0])), (integer(-65537), private)])
    sealed = good[len(array(bstr(protected), b"\xa0", b"")) + 0 :]
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    unsorted = head(5, len(members)) + b"".join(k + v for k, v in [members[1], members[0]] + members[2:])
    doubled = head(5, len(members) + 1) + b"".join(k + v for k, v in [members[0]] + members)
    long_head = head(5, len(members)) + b"".join(k + v for k, v in members).replace(
        uint(8) + uint(0), uint(8) + b"\x18\x00"
    )
    cases = [
        ("read", "empty", b"", "malformed"),
        ("read", "a byte behind the leaf", good + b"\0", "malformed"),
        ("read", "the last byte is missing", good[:-1], "malformed"),
        ("read", "tagged as COSE_Encrypt0", tag(16, good), "malformed"),
        ("read", "array of four", b"\x84" + good[1:] + b"\xf6", "malformed"),
        ("read", "array of indefinite length", b"\x9f" + good[1:] + b"\xff", "malformed"),
        ("read", "array head longer than needed", b"\x98\x03" + good[1:], "malformed"),
        ("read", "header length with a longer head than needed", b"\x83\x59\x00" + good[2:], "malformed"),
        ("read", "unprotected header with a member", made(unprotected=b"\xa1\x04\x41\x31"), "malformed"),
        ("read", "another algorithm", made(alg=1), "malformed"),
        ("read", "version 2", made(private=event_header(case, kc, 2)), "version"),
        ("read", "version 300", made(private=event_header(case, kc, 300)), "version"),
        ("read", "six items in the header", made(private=array(uint(1), *header_items)), "malformed"),
        ("read", "nine items in the header", made(private=array(uint(1), *header_items, bstr(kc), b"\xf6", b"\xf6")), "malformed"),
        ("read", "clear item that is not deterministic", made(private=array(uint(1), *header_items, bstr(kc), b"\x18\x01")), "malformed"),
        ("read", "clear item with a float longer than needed", made(private=array(uint(1), *header_items, bstr(kc), b"\xfa\x3f\x80\x00\x00")), "malformed"),
        ("read", "commitment of 31 bytes", made(private=array(uint(1), *header_items, bstr(kc[:31]))), "malformed"),
        ("read", "ciphertext that holds only a tag", made(content=b""), "malformed"),
        ("read", "content that is not filled up", made(content=content + b"\0"), "malformed"),
        ("open", "one bit of the tag changed", flipped, "altered"),
        ("open", "one bit of the ciphertext changed", good[:-40] + bytes([good[-40] ^ 0x80]) + good[-39:], "altered"),
        ("open", "hour changed in the header", good.replace(uint(case["header"]["hour"]), uint(case["header"]["hour"] + 1), 1), "altered"),
        ("open", "commitment to another key", made(private=event_header(case, bytes(32))), "wrong_key"),
        ("open", "32 zero bytes too many", made(content=content + bytes(32)), "malformed"),
        ("open", "filled up with ones", made(content=content[:-1] + b"\1"), "malformed"),
        ("open", "no event", made(content=without(0)), "malformed"),
        ("open", "no receipt time", made(content=without(2)), "malformed"),
        ("open", "no event id", made(content=without(4)), "malformed"),
        ("open", "no calling system", made(content=without(5)), "malformed"),
        ("open", "no dedupe id", made(content=without(6)), "malformed"),
        ("open", "no sequence", made(content=without(8)), "malformed"),
        ("open", "a member that v1 does not know", made(content=pad(cbor_map(members + [(uint(11), b"\xf6")]))), "malformed"),
        ("open", "members out of order", made(content=pad(unsorted)), "malformed"),
        ("open", "a member twice", made(content=pad(doubled)), "malformed"),
        ("open", "a number longer than needed", made(content=pad(long_head)), "malformed"),
    ]  # fmt: skip
    assert content.endswith(b"\0") and long_head != cbor_map(members) and sealed
    save(
        "leaf_refusals.json",
        {
            "origin": case["origin"],
            "event_key": key.hex(),
            "cases": [
                {"step": step, "name": name, "error": error, "leaf": leaf.hex()} for step, name, leaf, error in cases
            ],
        },
    )


# Forms of strings


def strings():
    hash64 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    uuid = "12345678-90ab-cdef-1234-567890abcdef"
    texts = [
        "", "VOICE", "q-sales-support", hash64, hash64.upper(), hash64[:32], hash64[:31], hash64[:33], hash64 * 2,
        uuid, uuid.upper(), "i-" + uuid, "agent-" + uuid, "crm-" + uuid, "-" + uuid, "urn:uuid:" + uuid,
        "twelve_bytes-" + uuid, "seventeen__bytes-" + uuid, uuid + "-", uuid + uuid, "x" + uuid,
        "cust_hash_" + hash64, "sha256:" + hash64, "ż-" + hash64, "cust_hash_9f86d08", "_" + hash64, "__" + hash64,
        "gc_aaaqeayeaudaocajbifqydiob4", "gc_aaaqeayeaudaocajbifqydiob5", "gc_AAAQEAYEAUDAOCAJBIFQYDIOB4",
        "2023-10-27T14:30:00Z", "2023-10-27T14:30:00.000Z", "2023-10-27T14:30:00.123Z", "2023-10-27T14:30:00.12Z",
        "2023-10-27T14:30:00.1234Z", "2023-10-27T14:30:00+00:00", "2023-10-27 14:30:00Z", "2023-10-27t14:30:00Z",
        "2023-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999Z",
        "1900-02-29T00:00:00Z", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
        "2023-10-27T24:00:00Z", "2023-13-01T00:00:00Z", "２０23-10-27T14:30:00Z",
    ]  # fmt: skip
    save("strings.json", [{"text": text, "cbor": string(text).hex()} for text in texts])


# JSON


def json_cases():
    deep = lambda n: "[" * n + "]" * n
    refused = [
        ("nothing", b"", "truncated"),
        ("blank", b"  \n", "truncated"),
        ("truncated object", b'{"a": 1', "truncated"),
        ("truncated text", b'{"a": "x', "truncated"),
        ("bytes behind", b'{"a": 1} x', "trailing_bytes"),
        ("two values", b"{}{}", "trailing_bytes"),
        ("duplicate member", b'{"a": 1, "a": 1}', "duplicate_member"),
        ("duplicate member, one escaped", b'{"a": 1, "\\u0061": 2}', "duplicate_member"),
        ("duplicate member, nested", b'[{"b": {"a": 1, "a": null}}]', "duplicate_member"),
        ("33 arrays", deep(33).encode(), "too_deep"),
        ("300 arrays", deep(300).encode(), "too_deep"),
        ("lone high surrogate", b'"\\ud800"', "lone_surrogate"),
        ("lone high surrogate before text", b'"\\ud800x"', "lone_surrogate"),
        ("lone low surrogate", b'"\\udc00"', "lone_surrogate"),
        ("two high surrogates", b'"\\ud800\\ud800"', "lone_surrogate"),
        ("not UTF-8", b'"\xff"', "invalid_utf8"),
        ("overlong UTF-8", b'"\xc0\xaf"', "invalid_utf8"),
        ("surrogate in UTF-8", b'"\xed\xa0\x80"', "invalid_utf8"),
        ("byte order mark", b"\xef\xbb\xbf{}", "malformed"),
        ("NaN", b'{"a": NaN}', "malformed"),
        ("Infinity", b'{"a": Infinity}', "malformed"),
        ("single quotes", b"{'a': 1}", "malformed"),
        ("comma behind the last member", b'{"a": 1,}', "malformed"),
        ("leading zero", b"[01]", "malformed"),
        ("leading plus", b"[+1]", "malformed"),
        ("control character in a text", b'"\x01"', "malformed"),
        ("comment", b"{} // x", "trailing_bytes"),
        ("integer beyond u64", b"[18446744073709551616]", "number_out_of_range"),
        ("integer below i64", b"[-9223372036854775809]", "number_out_of_range"),
        ("integer of 100 digits", b"[" + b"9" * 100 + b"]", "number_out_of_range"),
        ("float beyond f64", b"[1e400]", "number_out_of_range"),
        ("integer beyond u64 behind texts that look like one", b'["\\"18446744073709551616", 1e19, 18446744073709551616]', "number_out_of_range"),
    ]  # fmt: skip
    accepted = [
        b"null", b"0", b"-0", b"-0.0", b"1.0", b"1", b"18446744073709551615", b"-9223372036854775808", b"1e300",
        b"5e-324", b"2.2250738585072011e-308", b"0.1", b"100000000000000000000.0", b"1e19", b"9007199254740993",
        b"123456789012345680.0", b"7.0385307842880395e-9", b'"\\ud83d\\ude00"', b'"\\u0000"', b'"18446744073709551616"',
        deep(32).encode(), b' {"a" : [ ] } ', b'{"": {"": ""}}', "\"\u2028\"".encode(),
    ]  # fmt: skip
    save(
        "json.json",
        {
            "refused": [{"name": name, "hex": text.hex(), "code": code} for name, text, code in refused],
            "accepted": [text.decode() for text in accepted],
        },
    )


tokens()
strings()
json_cases()
refusals(leaves()[0])
