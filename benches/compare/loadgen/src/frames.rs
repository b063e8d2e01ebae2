//! Payloads, frames, and the reading of frames: counting while measuring, in full for the first message.

use std::io::Write as _;

use crate::die;

/// `n` bytes of the kind that --payload names.
pub fn payload(n: usize, kind: &str) -> Vec<u8> {
    let mut v = Vec::with_capacity(n + 64);
    match kind {
        // A chat/telemetry-like JSON text: repeated keys, varying values (deflates about 3:1).
        "json" => {
            let mut x = 0x9E3779B97F4A7C15u64;
            v.extend_from_slice(b"{\"items\":[");
            while v.len() < n {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                let _ = write!(
                    v,
                    "{{\"id\":{},\"user\":\"u{:04x}\",\"price\":{}.{:02},\"ok\":{}}},",
                    x % 100000,
                    (x >> 20) & 0xffff,
                    (x >> 36) % 1000,
                    (x >> 50) % 100,
                    x & 1 == 0
                );
            }
            v.truncate(n);
        }
        // printable ASCII without long runs
        "ascii" => {
            let mut x = 1u32;
            while v.len() < n {
                x = x.wrapping_mul(1664525).wrapping_add(1013904223);
                v.push(32 + ((x >> 24) % 94) as u8)
            }
        }
        // mixed 1..4-byte UTF-8
        "utf8" => {
            let s = "Grüße, мир, 世界 \u{1F600} ok ";
            while v.len() < n {
                v.extend_from_slice(s.as_bytes())
            }
            v.truncate(n);
            while std::str::from_utf8(&v).is_err() {
                v.pop();
            }
            while v.len() < n {
                v.push(b'.')
            }
        }
        _ => {
            let mut x = 1u32;
            while v.len() < n {
                x = x.wrapping_mul(1664525).wrapping_add(1013904223);
                v.push((x >> 24) as u8)
            }
        }
    }
    v
}

/// One whole masked client frame.
pub fn frame(op: u8, body: &[u8], rsv1: bool) -> Vec<u8> {
    let key = [0x37u8, 0xfa, 0x21, 0x3d];
    let mut f = vec![0x80 | op | if rsv1 { 0x40 } else { 0 }];
    let n = body.len();
    if n < 126 {
        f.push(0x80 | n as u8)
    } else if n < 65536 {
        f.push(0x80 | 126);
        f.extend_from_slice(&(n as u16).to_be_bytes())
    } else {
        f.push(0x80 | 127);
        f.extend_from_slice(&(n as u64).to_be_bytes())
    }
    f.extend_from_slice(&key);
    f.extend(body.iter().enumerate().map(|(i, b)| b ^ key[i & 3]));
    f
}

/// Walks frame headers only. Counts finished data messages.
#[derive(Clone, Default)]
pub struct Walker {
    hdr: [u8; 14],
    have: u8,
    left: u64,
    data: bool,
    fin: bool,
    frames: u64,
}

impl Walker {
    /// Returns how many data messages ended in `b`.
    #[inline]
    pub fn feed(&mut self, b: &[u8]) -> usize {
        let mut i = 0;
        let n = b.len();
        let mut msgs = 0;
        loop {
            if self.left > 0 {
                let k = self.left.min((n - i) as u64);
                self.left -= k;
                i += k as usize;
                if self.left > 0 {
                    return msgs;
                }
                if self.data && self.fin {
                    msgs += 1
                }
            }
            if i >= n {
                return msgs;
            }
            // fast path: the whole header is here
            if self.have == 0 && n - i >= 14 {
                let (b0, b1) = (b[i], b[i + 1]);
                let mut h = 2;
                let mut l = (b1 & 127) as u64;
                if l == 126 {
                    l = u16::from_be_bytes([b[i + 2], b[i + 3]]) as u64;
                    h = 4
                } else if l == 127 {
                    l = u64::from_be_bytes(b[i + 2..i + 10].try_into().unwrap());
                    h = 10
                }
                if b1 & 128 != 0 {
                    h += 4
                }
                i += h;
                self.begin(b0, l, &mut msgs);
            } else {
                self.hdr[self.have as usize] = b[i];
                self.have += 1;
                i += 1;
                let h = self.have as usize;
                if h >= 2 {
                    let l7 = self.hdr[1] & 127;
                    let ext = if l7 == 126 {
                        2
                    } else if l7 == 127 {
                        8
                    } else {
                        0
                    };
                    let mask = if self.hdr[1] & 128 != 0 { 4 } else { 0 };
                    if h == 2 + ext + mask {
                        let l = match ext {
                            2 => u16::from_be_bytes([self.hdr[2], self.hdr[3]]) as u64,
                            8 => u64::from_be_bytes(self.hdr[2..10].try_into().unwrap()),
                            _ => l7 as u64,
                        };
                        self.have = 0;
                        let b0 = self.hdr[0];
                        self.begin(b0, l, &mut msgs);
                    }
                }
            }
        }
    }

    #[inline]
    fn begin(&mut self, b0: u8, l: u64, msgs: &mut usize) {
        let op = b0 & 15;
        if op == 8 {
            die("the server sent a close frame")
        }
        if op > 10 || (3..8).contains(&op) || b0 & 0x30 != 0 {
            die(&format!("bad frame byte {b0:#x} from the server"))
        }
        self.data = op < 3;
        self.fin = b0 & 128 != 0;
        self.frames += 1;
        self.left = l;
        if l == 0 && self.data && self.fin {
            *msgs += 1
        }
    }
}

/// Full check of a connection's first message: unfragmented or fragmented, plain, masked (raw echo) or deflated.
pub fn check(b: &[u8], want: &[u8], deflate: bool, conn: usize) {
    let mut i = 0;
    let mut got = vec![];
    let mut rsv1 = false;
    loop {
        let b0 = b[i];
        let m = b[i + 1] & 128 != 0;
        let mut l = (b[i + 1] & 127) as usize;
        i += 2;
        if l == 126 {
            l = u16::from_be_bytes([b[i], b[i + 1]]) as usize;
            i += 2
        } else if l == 127 {
            l = u64::from_be_bytes(b[i..i + 8].try_into().unwrap()) as usize;
            i += 8
        }
        let mut key = [0u8; 4];
        if m {
            key.copy_from_slice(&b[i..i + 4]);
            i += 4
        }
        if b0 & 15 < 3 {
            if b0 & 15 != 0 {
                rsv1 = b0 & 0x40 != 0
            }
            got.extend(b[i..i + l].iter().enumerate().map(|(j, x)| x ^ key[j & 3]));
        }
        i += l;
        if b0 & 15 < 3 && b0 & 128 != 0 {
            break;
        }
    }
    if rsv1 && deflate {
        got.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut out = Vec::with_capacity(want.len() + 1024);
        let mut d = flate2::Decompress::new(false);
        if d.decompress_vec(&got, &mut out, flate2::FlushDecompress::Sync).is_err() {
            die("the server's deflated message does not inflate")
        }
        got = out;
    }
    if got != want {
        die(&format!("connection {conn}: the echoed payload differs ({} bytes for {})", got.len(), want.len()))
    }
}
