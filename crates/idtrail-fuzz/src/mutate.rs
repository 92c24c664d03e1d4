//! Makes inputs out of others: a few changes of the kinds that break parsers.

use idtrail_sim::Rng;

/// Longer inputs are cut; every format here has limits far below.
const BYTES_MAX: usize = 128 * 1024;

/// Bytes and words that mean something in one of the formats.
const WORDS: [&[u8]; 24] = [
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"18446744073709551616",
    b"\\ud800",
    b"\\u0000",
    b"{}",
    b"[]",
    b"\"\"",
    b"\xe2\x80\x94 ",
    b"\n\n",
    b"\r\n",
    b"+",
    b"==",
    b"tile/",
    b"x001/",
    b"c2sp.org/tlog-proof@v1\n",
    b"{{auditEvent}}",
    b"\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x9f\xff",
    b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xf6",
];

/// Returns one of the corpus with one to six changes.
pub fn changed(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = rng.choose(corpus).cloned().unwrap_or_default();
    for _ in 0..1 + rng.below(6) {
        change(&mut input, corpus, rng);
    }
    input.truncate(BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    let length = input.len();
    let at = rng.below(length as u64 + 1) as usize;
    let span = |rng: &mut Rng, longest: u64| {
        (at + rng.below(longest.min((length - at) as u64) + 1) as usize).min(length)
    };
    match rng.below(9) {
        0 if at < length => input[at] ^= 1 << rng.below(8),
        1 if at < length => input[at] = rng.bits() as u8,
        2 => input.truncate(at),
        3 => {
            let end = span(rng, 64);
            input.drain(at..end);
        }
        4 => {
            let end = span(rng, 64);
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let word = rng.choose(&WORDS).copied().unwrap_or_default();
            input.splice(at..at, word.iter().copied());
        }
        6 => {
            // Part of another input, in place of a part of this one.
            let other = rng.choose(corpus).cloned().unwrap_or_default();
            let from = rng.below(other.len() as u64 + 1) as usize;
            let to = (from + rng.below(256) as usize).min(other.len());
            let end = span(rng, 256);
            input.splice(at..end, other[from..to].iter().copied());
        }
        7 if at < length && input[at].is_ascii_digit() => input[at] = b'0' + rng.below(10) as u8,
        _ => {
            let extra = rng.below(8) as usize;
            let extra = rng.bytes(extra);
            input.splice(at..at, extra);
        }
    }
}
