//! Lines out of bytes, without input or output.

use std::mem;

use crate::lines::LineOptions;

/// What a splitter finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line, without its delimiter; at most `max_length` bytes.
    Whole(&'a [u8]),
    /// The first `max_length + 1` bytes of a longer one. What follows, up to its delimiter, is skipped.
    TooLong(Vec<u8>),
}

/// Cuts a stream into lines, the same ones however the stream was cut into inputs. It keeps no more than an unfinished
/// line, fewer than `max_length` and the delimiter's length together; without one it owns no memory.
#[derive(Debug)]
pub(crate) struct Splitter {
    options: LineOptions,
    /// The unfinished line; of one that is skipped, the end in which its delimiter may have begun.
    kept: Vec<u8>,
    /// What was kept has been given out as a line, and is not needed any more.
    given: bool,
    skipping: bool,
}

impl Splitter {
    pub(crate) fn new(options: LineOptions) -> Self {
        assert!(!options.delimiter.is_empty(), "a delimiter must not be empty");
        Self { options, kept: Vec::new(), given: false, skipping: false }
    }

    pub(crate) fn options(&self) -> &LineOptions {
        &self.options
    }

    /// The next line, taken from the front of `input`; `None` when more is needed, and `input` is used up.
    pub(crate) fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Line<'a>> {
        if mem::take(&mut self.given) {
            self.kept = Vec::new();
        }
        loop {
            let data = *input;
            let Some((line, rest)) = self.split(data) else {
                *input = &[];
                return self.keep(data);
            };
            *input = rest;
            if mem::take(&mut self.skipping) {
                self.kept = Vec::new();
            } else if self.kept.is_empty() {
                return Some(self.judge(line)); // the usual case: nothing is copied
            } else {
                return Some(self.complete(line));
            }
        }
    }

    /// Up to the first delimiter in what is kept and `data` together, and what is behind it in `data`. Where the
    /// delimiter begins in what is kept, that part of it is cut off there.
    fn split<'a>(&mut self, data: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let delimiter = self.options.delimiter;
        for begun in (1..delimiter.len()).rev() {
            let (head, tail) = delimiter.split_at(begun);
            if self.kept.ends_with(head) {
                if let Some(rest) = data.strip_prefix(tail) {
                    self.kept.truncate(self.kept.len() - begun);
                    return Some((&[], rest));
                }
            }
        }
        find(data, delimiter).map(|at| (&data[..at], &data[at + delimiter.len()..]))
    }

    fn judge<'a>(&self, line: &'a [u8]) -> Line<'a> {
        if line.len() <= self.options.max_length { Line::Whole(line) } else { Line::TooLong(self.start(&[], line)) }
    }

    /// The line that was kept, and its last piece.
    fn complete(&mut self, piece: &[u8]) -> Line<'_> {
        self.given = true;
        if self.kept.len() + piece.len() > self.options.max_length {
            return Line::TooLong(self.start(&self.kept, piece));
        }
        self.kept.extend_from_slice(piece);
        Line::Whole(&self.kept)
    }

    /// Keeps the unfinished line for later, unless it is too long already.
    fn keep(&mut self, data: &[u8]) -> Option<Line<'_>> {
        let LineOptions { delimiter, max_length } = self.options;
        // a line of `max_length` may be followed by all of its delimiter but one byte
        if !self.skipping && self.kept.len() + data.len() < max_length.saturating_add(delimiter.len()) {
            self.kept.extend_from_slice(data);
            return None;
        }
        let line = mem::take(&mut self.kept);
        // what may be the beginning of the delimiter: the last bytes of the two
        let from_data = &data[data.len().saturating_sub(delimiter.len() - 1)..];
        let missing = delimiter.len() - 1 - from_data.len();
        self.kept.extend_from_slice(&line[line.len().saturating_sub(missing)..]);
        self.kept.extend_from_slice(from_data);
        let reported = mem::replace(&mut self.skipping, true);
        (!reported).then(|| Line::TooLong(self.start(&line, data)))
    }

    /// As much of a too long line as it is reported with: not whatever the peer sends, and the same for any inputs.
    fn start(&self, line: &[u8], piece: &[u8]) -> Vec<u8> {
        line.iter().chain(piece).take(self.options.max_length.saturating_add(1)).copied().collect()
    }
}

/// Where the first delimiter begins.
fn find(data: &[u8], delimiter: &[u8]) -> Option<usize> {
    let last = delimiter.last()?;
    let mut searched = 0;
    while let Some(found) = data[searched..].iter().position(|byte| byte == last) {
        searched += found + 1;
        if data[..searched].ends_with(delimiter) {
            return Some(searched - delimiter.len());
        }
    }
    None
}

#[cfg(test)]
#[path = "splitter_tests.rs"]
mod tests;
