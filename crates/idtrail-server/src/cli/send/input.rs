//! Events from a file or a pipe: NDJSON (one JSON text a line) or one JSON array, told apart by the first character.

use std::io::{self, BufRead, Read};

use idtrail_port::DiskFile;
use serde_json::value::RawValue;

/// Longest line or array in bytes.
const NDJSON_LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const ARRAY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Reads a file through the disk port from its start to its end.
pub(super) struct FileReader {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) offset: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The events of an input, one after the other, as the bytes to send.
pub(super) enum Events {
    Lines { reader: Box<dyn BufRead + Send>, line: u64 },
    Array(std::vec::IntoIter<Box<RawValue>>),
}

/// Why an input cannot be read on. No variant holds a part of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("the input cannot be read")]
    Read(#[from] io::Error),
    #[error("a line is longer than allowed. line={line}")]
    LongLine { line: u64 },
    #[error("the input starts like a JSON array but is none. line={line}, column={column}")]
    Array { line: usize, column: usize },
    #[error("the array is longer than allowed; send it as NDJSON, one event a line")]
    LongArray,
}

impl Events {
    pub(super) fn open(mut reader: Box<dyn BufRead + Send>) -> Result<Self, InputError> {
        let first = loop {
            let buffer = reader.fill_buf()?;
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match buffer.get(blank) {
                Some(first) => break Some(*first),
                None if buffer.is_empty() => break None,
                None => {}
            }
            reader.consume(blank);
        };
        if first != Some(b'[') {
            return Ok(Self::Lines { reader, line: 0 });
        }
        let mut bytes = Vec::new();
        reader.take(ARRAY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > ARRAY_BYTES_MAX {
            return Err(InputError::LongArray);
        }
        let items: Vec<Box<RawValue>> = serde_json::from_slice(&bytes)
            .map_err(|error| InputError::Array { line: error.line(), column: error.column() })?;
        Ok(Self::Array(items.into_iter()))
    }

    /// Returns the next event; `None` at the end. What it holds is for the server to judge.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        match self {
            Self::Array(items) => Ok(items.next().map(|item| item.get().as_bytes().to_vec())),
            Self::Lines { reader, line } => loop {
                *line += 1;
                let mut bytes = Vec::new();
                let mut limited = reader.take(NDJSON_LINE_BYTES_MAX + 1);
                if limited.read_until(b'\n', &mut bytes)? == 0 {
                    return Ok(None);
                }
                if bytes.len() as u64 > NDJSON_LINE_BYTES_MAX {
                    return Err(InputError::LongLine { line: *line });
                }
                let text = bytes.trim_ascii();
                if !text.is_empty() {
                    return Ok(Some(text.to_vec()));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &'static str) -> Result<Vec<String>, InputError> {
        let mut events = Events::open(Box::new(text.as_bytes()))?;
        let mut found = Vec::new();
        while let Some(event) = events.next()? {
            found.push(String::from_utf8(event).unwrap());
        }
        Ok(found)
    }

    #[test]
    fn both_forms_give_the_same_events() {
        for text in
            ["{\"a\":1}\n{\"b\":[2]}\n", "\n {\"a\":1} \r\n\n{\"b\":[2]}", " [ {\"a\":1} , {\"b\":[2]} ] "]
        {
            assert_eq!(all(text).unwrap(), ["{\"a\":1}", "{\"b\":[2]}"], "{text}");
        }
        for text in ["", " \n\n", "[]"] {
            assert_eq!(all(text).unwrap().len(), 0, "{text:?}");
        }
        assert!(matches!(all("[{},"), Err(InputError::Array { line: 1, .. })));
    }
}
