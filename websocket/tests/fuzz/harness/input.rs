//! How an input is read.

/// The first `N` bytes, which choose how the rest is treated. Missing ones are zeros.
pub fn choices<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let mut chosen = [0; N];
    let (front, rest) = data.split_at(N.min(data.len()));
    chosen[..front.len()].copy_from_slice(front);
    (chosen, rest)
}

/// Where a stream is cut into the pieces in which it arrives.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    Nowhere,
    /// But for what follows the first 2 KiB, which is cut less often.
    EveryByte,
    /// Once at this place, modulo the length, and from there on into pieces of this length, if it is not 0.
    At(u16, u8),
}

impl Cut {
    pub fn pieces(self, stream: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Nowhere => vec![stream],
            Self::EveryByte => {
                let (first, rest) = stream.split_at(stream.len().min(2048));
                first.chunks(1).chain(rest.chunks(509)).collect()
            }
            Self::At(place, length) => {
                let (first, rest) = stream.split_at(usize::from(place) % (stream.len() + 1));
                let length = if length == 0 { rest.len().max(1) } else { length.into() };
                std::iter::once(first).chain(rest.chunks(length)).collect()
            }
        }
    }
}

/// Text of the library that may quote a peer has no line ends and no escape sequences of the peer's.
pub fn assert_printable(text: &str) {
    let strange = text.chars().find(|&character| character != ' ' && !character.is_ascii_graphic());
    assert_eq!(strange, None, "in {text:?}");
}
