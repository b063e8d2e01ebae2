//! UTF-8 that comes in pieces.

use std::str;

use simdutf8::basic;

use super::FrameError;

/// Validates text piece by piece, and fails with the piece that brings the first wrong byte.
///
/// Holds back the at most three bytes of a character that a piece leaves unfinished, having made sure that they can be
/// finished: `ED A0` is wrong already, whatever follows.
#[derive(Default)]
pub(super) struct Utf8 {
    carry: [u8; 4],
    length: u8,
}

impl Utf8 {
    /// Takes the next piece and hands what is certain by now to `valid`, in order.
    pub(super) fn push(&mut self, piece: &[u8], mut valid: impl FnMut(&str)) -> Result<(), FrameError> {
        let mut piece = piece;
        while let (1.., Some((&byte, rest))) = (self.length, piece.split_first()) {
            piece = rest;
            if let Some(character) = self.complete(byte)? {
                valid(character);
            }
        }
        let (whole, rest) = piece.split_at(piece.len() - unfinished(piece));
        if !whole.is_empty() {
            valid(basic::from_utf8(whole).map_err(|_| FrameError::InvalidText)?);
        }
        for &byte in rest {
            self.complete(byte)?;
        }
        Ok(())
    }

    /// Ends the text: an unfinished character is an error now.
    pub(super) fn finish(&mut self) -> Result<(), FrameError> {
        if self.length == 0 { Ok(()) } else { Err(FrameError::InvalidText) }
    }

    /// Adds a byte to the carry, and gives the character which that completes.
    fn complete(&mut self, byte: u8) -> Result<Option<&str>, FrameError> {
        let length = usize::from(self.length);
        *self.carry.get_mut(length).ok_or(FrameError::InvalidText)? = byte;
        self.length += 1;
        match str::from_utf8(&self.carry[..=length]) {
            Ok(character) => {
                self.length = 0;
                Ok(Some(character))
            }
            Err(error) if error.error_len().is_none() => Ok(None),
            Err(_) => Err(FrameError::InvalidText),
        }
    }
}

/// How many bytes at the end of `text` begin a character whose length, by its first byte, goes beyond the end.
fn unfinished(text: &[u8]) -> usize {
    for (behind, &byte) in text.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xbf => continue,
            0x00..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        return if behind + 1 < needed { behind + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds pieces; how many were taken before the error, or the text.
    fn feed(pieces: &[&[u8]]) -> Result<String, usize> {
        let (mut utf8, mut text) = (Utf8::default(), String::new());
        for (taken, piece) in pieces.iter().enumerate() {
            utf8.push(piece, |valid| text.push_str(valid)).map_err(|_| taken)?;
        }
        utf8.finish().map_err(|_| pieces.len())?;
        Ok(text)
    }

    // T35, P263
    #[test]
    fn text_split_at_any_two_bytes_is_accepted_unchanged() {
        let text = "aé\u{7ff}\u{800}世\u{d7ff}\u{e000}\u{ffff}\u{10000}😀\u{10ffff}z".repeat(3);
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(feed(&pieces).as_deref(), Ok(&*text));
            }
        }
        let singly: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(feed(&singly).as_deref(), Ok(&*text));
    }

    // T34, T35: Autobahn 6.2 to 6.22.
    #[test]
    fn wrong_bytes_fail_with_the_very_byte_that_makes_them_wrong() {
        let cases: &[(&[u8], usize)] = &[
            (b"\x80", 0),     // a lone continuation
            (b"\xc0\xaf", 0), // overlong, two bytes
            (b"\xc1\xbf", 0),
            (b"\xe0\x80\xaf", 1), // overlong, three bytes
            (b"\xe0\x9f\xbf", 1),
            (b"\xf0\x80\x80\xaf", 1), // overlong, four bytes
            (b"\xf0\x8f\xbf\xbf", 1),
            (b"\xed\xa0\x80", 1), // surrogates
            (b"\xed\xbf\xbf", 1),
            (b"\xf4\x90\x80\x80", 1), // beyond U+10FFFF
            (b"\xf5\x80\x80\x80", 0),
            (b"\xff", 0),
            (b"\xce\xce", 1), // a character cut short by another
            (b"\xf0\x9f\x98a", 3),
        ];
        for &(wrong, at) in cases {
            let bytes: Vec<u8> = [b"ok ", wrong, b" and more"].concat();
            let singly: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(feed(&singly), Err(3 + at), "{wrong:x?}");
            for cut in 0..=bytes.len() {
                assert!(feed(&[&bytes[..cut], &bytes[cut..]]).is_err(), "{wrong:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn text_that_ends_inside_a_character_is_an_error_only_at_its_end() {
        for unfinished in [&b"\xce"[..], b"\xe4\xb8", b"\xf0\x9f\x98"] {
            assert_eq!(feed(&[b"ok", unfinished]), Err(2));
        }
    }
}
