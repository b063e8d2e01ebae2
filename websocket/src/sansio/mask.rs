//! Masking: RFC 6455, section 5.3. The same operation masks and unmasks.

/// Bytes masked in one step.
const BLOCK: usize = 64;

/// Bytes copied before they are masked: both passes together stay in a first-level cache of 32 KiB.
const COPY: usize = 8 * 1024;

/// Masks or unmasks `data` in place; its first byte meets the first byte of `key`.
///
/// A key of zeros changes nothing. See [`mask_at`] for a payload that comes in pieces.
#[inline]
pub fn mask(data: &mut [u8], key: [u8; 4]) {
    let word = u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001;
    let mut rest = data;
    // The fixed number of words in a block becomes vector instructions, without unsafe and without a prologue that
    // aligns.
    while rest.len() >= BLOCK {
        let (block, after) = rest.split_at_mut(BLOCK);
        block.chunks_exact_mut(8).for_each(|chunk| xor_word(chunk, word));
        rest = after;
    }
    while rest.len() >= 8 {
        let (chunk, after) = rest.split_at_mut(8);
        xor_word(chunk, word);
        rest = after;
    }
    if rest.len() >= 4 {
        let (chunk, after) = rest.split_at_mut(4);
        xor_bytes(chunk, key);
        rest = after;
    }
    xor_bytes(rest, key);
}

/// Masks or unmasks a piece of a payload in place that begins `offset` bytes into it.
///
/// ```
/// # use twistor_websocket::sansio::{mask, mask_at};
/// let (mut whole, mut pieces) = (*b"Hello", *b"Hello");
/// mask(&mut whole, [1, 2, 3, 4]);
/// mask_at(&mut pieces[..3], [1, 2, 3, 4], 0);
/// mask_at(&mut pieces[3..], [1, 2, 3, 4], 3);
/// assert_eq!(whole, pieces);
/// ```
#[inline]
pub fn mask_at(data: &mut [u8], key: [u8; 4], offset: usize) {
    mask(data, rotate(key, offset));
}

/// Appends `src` to `dst`, masked: one pass over memory, since each block is masked while the cache holds its copy.
pub fn copy_masked(dst: &mut Vec<u8>, src: &[u8], key: [u8; 4]) {
    dst.reserve(src.len());
    // A block is a multiple of the key's length: each begins with the key's first byte.
    for block in src.chunks(COPY) {
        let start = dst.len();
        dst.extend_from_slice(block);
        mask(&mut dst[start..], key);
    }
}

/// The key for the bytes that follow the first `offset` of a payload.
#[inline]
pub(super) fn rotate(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}

#[inline(always)]
fn xor_word(chunk: &mut [u8], word: u64) {
    if let Some(chunk) = chunk.first_chunk_mut() {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
}

#[inline(always)]
fn xor_bytes(bytes: &mut [u8], key: [u8; 4]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn plainly(data: &[u8], key: [u8; 4]) -> Vec<u8> {
        data.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    #[test]
    fn every_length_and_alignment_is_masked_as_the_rfc_says() {
        let data: Vec<u8> = (0..=255).collect();
        for start in 0..9 {
            for length in 0..200 {
                let mut masked = data.clone();
                mask(&mut masked[start..start + length], KEY);
                let expected = plainly(&data[start..start + length], KEY);
                assert_eq!(masked[start..start + length], expected);
                assert_eq!(masked[..start], data[..start]);
                assert_eq!(masked[start + length..], data[start + length..]);
            }
        }
    }

    #[test]
    fn pieces_and_copies_are_masked_like_the_whole() {
        let data: Vec<u8> = (0..3 * COPY as u32 + 13).map(|n| (n * 7) as u8).collect();
        let expected = plainly(&data, KEY);
        let mut copy = vec![9];
        copy_masked(&mut copy, &data, KEY);
        assert_eq!((copy[0], &copy[1..]), (9, &expected[..]));
        for cut in [0, 1, 2, 3, 4, 5, 4097] {
            let mut pieces = data.clone();
            mask_at(&mut pieces[..cut], KEY, 0);
            mask_at(&mut pieces[cut..], KEY, cut);
            assert_eq!(pieces, expected, "cut at {cut}");
        }
    }
}
