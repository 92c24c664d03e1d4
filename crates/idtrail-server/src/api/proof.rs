//! Answers with a proof in them, as JSON.
//!
//! The proof is by far the longest member of a receipt, and nothing but its line ends has to be escaped. It is put in line
//! by line, because looking at each of its bytes for something to escape would cost as much as all the rest.

use serde::Serialize;

/// What an empty proof is written as. It stands nowhere else: within a text its quotes would be escaped.
const PLACE: &[u8] = b"\"proof\":\"\"";

/// Writes an answer whose proof is reached by `proof`.
///
/// # Errors
/// As the library that writes JSON.
pub(crate) fn json<T: Serialize>(
    answer: &mut T,
    proof: impl Fn(&mut T) -> Option<&mut String>,
) -> serde_json::Result<Vec<u8>> {
    let Some(text) = proof(answer).filter(|text| has_lines_only(text)).map(std::mem::take) else {
        return serde_json::to_vec(answer);
    };
    let mut body = Vec::with_capacity(text.len() + 768);
    serde_json::to_writer(&mut body, answer)?;
    let place = body.windows(PLACE.len()).rposition(|window| window == PLACE);
    let Some(place) = place.map(|place| place + PLACE.len() - 1) else {
        if let Some(empty) = proof(answer) {
            *empty = text;
        }
        return serde_json::to_vec(answer);
    };
    let rest = body.split_off(place);
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            body.extend_from_slice(b"\\n");
        }
        body.extend_from_slice(line.as_bytes());
    }
    body.extend_from_slice(&rest);
    Ok(body)
}

/// Tells whether line ends are all that JSON escapes in a text; in one pass without branches.
fn has_lines_only(text: &str) -> bool {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    text.bytes().fold(true, |lines, byte| lines & (plain(byte) | (byte == b'\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Serialize)]
    struct Answer {
        before: &'static str,
        receipt: Inner,
        behind: u8,
    }

    #[derive(Clone, Serialize)]
    struct Inner {
        proof: String,
    }

    #[test]
    fn an_answer_is_written_as_the_library_writes_it() {
        let proofs = [
            "",
            "a",
            "\n",
            "c2sp.org/tlog-proof@v1\nindex 7\n\nsize\n\u{2014} name AAAA\n",
            "\"",
            "\\",
            "a\tb",
            "\"proof\":\"\"",
        ];
        for proof in proofs {
            let mut answer =
                Answer { before: "\"proof\":\"\"", receipt: Inner { proof: proof.to_owned() }, behind: 1 };
            let expected = serde_json::to_vec(&answer).unwrap();
            let written = json(&mut answer, |answer| Some(&mut answer.receipt.proof)).unwrap();
            assert_eq!(String::from_utf8(written), String::from_utf8(expected));
        }
    }
}
