//! A file byte by byte, for the splitters.

use std::io::{self, Read};

/// Largest document. A book is about 1 MiB of text.
pub(super) const RECORD_LIMIT: usize = 64 << 20;

/// Why a record could not be read.
pub(super) enum Stop {
    /// The document that starts at this line is too large; the next one can be read.
    TooLarge(usize),
    /// From this line on the file does not follow its format.
    Malformed(usize, String),
    /// The file cannot be read.
    Io(usize, io::Error),
}

/// A file byte by byte, with its line.
pub(super) struct Bytes {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    line: usize,
    started: bool,
}

impl Bytes {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, buffer: vec![0; 1 << 16], at: 0, end: 0, line: 1, started: false }
    }

    /// The line of the next byte, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next byte; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> std::result::Result<Option<u8>, Stop> {
        if self.at == self.end && !self.fill()? {
            return Ok(None);
        }
        let byte = self.buffer[self.at];
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Ok(Some(byte))
    }

    fn fill(&mut self) -> std::result::Result<bool, Stop> {
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(count) => {
                    (self.at, self.end) = (0, count);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Io(self.line, error)),
            }
        }
        if !self.started {
            self.started = true;
            // Skip a byte order mark. (It is not recognised if the first read returns fewer than three
            // bytes.)
            if self.buffer[..self.end].starts_with(b"\xef\xbb\xbf") {
                self.at = 3;
                return if self.at == self.end { self.fill() } else { Ok(true) };
            }
        }
        Ok(self.end > 0)
    }

    /// Append the next line with its line end; false at the end of the file. A line longer than
    /// the limit is cut just after it, so that the caller notices.
    pub(super) fn line_into(&mut self, line: &mut Vec<u8>) -> std::result::Result<bool, Stop> {
        loop {
            if self.at == self.end && !self.fill()? {
                return Ok(false);
            }
            let rest = &self.buffer[self.at..self.end];
            let (length, complete) = match rest.iter().position(|&byte| byte == b'\n') {
                Some(position) => (position + 1, true),
                None => (rest.len(), false),
            };
            if line.len() <= RECORD_LIMIT {
                line.extend_from_slice(&rest[..length]);
            }
            self.at += length;
            self.line += usize::from(complete);
            if complete {
                return Ok(true);
            }
        }
    }
}
