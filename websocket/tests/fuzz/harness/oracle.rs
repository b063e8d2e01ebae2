//! RFC 6455 once more, as plainly as possible: what a receiver of whole messages should see.

use twistor_websocket::sansio::{Limits, Role};

use super::frames::Seen;

/// What `wire` says to the side that is `role`, and the close code it fails with.
///
/// With `deflate` messages may be compressed. What is in them is not known here: [`Seen::End`] stands for such a one.
pub fn judge(wire: &[u8], role: Role, limits: &Limits, deflate: bool) -> (Vec<Seen>, Option<u16>) {
    let mut oracle = Oracle { role, limits, deflate, seen: Vec::new(), message: None };
    let mut rest = wire;
    let code = loop {
        match oracle.frame(rest) {
            Ok(Some(used)) => rest = &rest[used..],
            Ok(None) => break None,
            Err(code) => break Some(code),
        }
        if matches!(oracle.seen.last(), Some(Seen::Close(_))) {
            break None;
        }
    };
    (oracle.seen, code)
}

struct Oracle<'l> {
    role: Role,
    limits: &'l Limits,
    deflate: bool,
    seen: Vec<Seen>,
    message: Option<Open>,
}

/// A message that has begun.
struct Open {
    text: bool,
    compressed: bool,
    payload: Vec<u8>,
    frames: u32,
}

impl Oracle<'_> {
    /// Reads a frame, and says how long it was; `None` if it is not all there, and right so far.
    fn frame(&mut self, wire: &[u8]) -> Result<Option<usize>, u16> {
        let &[first, second, ref rest @ ..] = wire else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        // RFC 7692, 6: RSV1 on the first frame of a message only
        let compressed = self.deflate && matches!(opcode, 1 | 2) && first & 0x40 != 0;
        let wrong = first & 0x70 != if compressed { 0x40 } else { 0 }
            || matches!(opcode, 3..=7 | 11..=15)
            || masked != (self.role == Role::Server)
            || opcode >= 8 && (!fin || short > 125);
        if wrong {
            return Err(1002);
        }
        let wide = [2, 8].get(usize::from(short).wrapping_sub(126)).copied().unwrap_or(0);
        let Some(number) = rest.get(..wide) else { return Ok(None) };
        let number = number.iter().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
        let length = if wide == 0 { short.into() } else { number };
        if wide == 2 && length < 126 || wide == 8 && !(0x1_0000..1 << 63).contains(&length) {
            return Err(1002);
        }
        let start = 2 + wide + if masked { 4 } else { 0 };
        let Some(behind) = wire.get(start..) else { return Ok(None) };
        let here = usize::try_from(length).map_or(behind.len(), |length| length.min(behind.len()));
        let mut payload = behind[..here].to_vec();
        if masked {
            payload.iter_mut().zip(wire[start - 4..start].iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        let whole = payload.len() as u64 == length;
        let used = start + payload.len();
        if opcode >= 8 {
            if whole {
                self.seen.push(control(opcode, payload)?);
            }
        } else {
            let new = Open { text: opcode == 1, compressed, payload: Vec::new(), frames: 0 };
            self.data(fin, (opcode != 0).then_some(new), length, payload)?;
        }
        Ok(whole.then_some(used))
    }

    /// A data frame, which begins `new` or continues what has begun.
    fn data(&mut self, fin: bool, new: Option<Open>, length: u64, payload: Vec<u8>) -> Result<(), u16> {
        let whole = payload.len() as u64 == length;
        let ((Some(mut message), None) | (None, Some(mut message))) = (self.message.take(), new) else {
            return Err(1002);
        };
        message.frames += 1;
        if message.frames > self.limits.max_fragments.max(1) {
            return Err(1008);
        }
        let total = length.saturating_add(message.payload.len() as u64);
        if length > self.limits.max_frame as u64 || total > self.limits.max_message as u64 {
            return Err(1009);
        }
        message.payload.extend(payload);
        let done = whole && fin;
        let text = std::str::from_utf8(&message.payload);
        if message.text && !message.compressed && text.is_err_and(|error| done || error.error_len().is_some()) {
            return Err(1007);
        }
        match text {
            _ if !done => self.message = Some(message),
            _ if message.compressed => self.seen.push(Seen::End),
            Ok(text) if message.text => self.seen.push(Seen::Text(text.into())),
            _ => self.seen.push(Seen::Binary(message.payload)),
        }
        Ok(())
    }
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Seen, u16> {
    Ok(match (opcode, &payload[..]) {
        (9, _) => Seen::Ping(payload),
        (10, _) => Seen::Pong(payload),
        (_, []) => Seen::Close(None),
        (_, [_]) => return Err(1002),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            // RFC 6455, 7.4 and IANA's registry of close codes
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(1002);
            }
            Seen::Close(Some((code, String::from_utf8(reason.to_vec()).map_err(|_| 1007_u16)?)))
        }
    })
}
