//! A peer that writes bytes, right ones and wrong ones, and reads what comes: what this file knows of RFC 6455 it has
//! not from the library.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{dial, patient, reset};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame; `first` is FIN, reserved bits and opcode.
pub(crate) fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A server's frame.
pub(crate) fn plain(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = header(first, 0, payload.len());
    frame.extend(payload);
    frame
}

/// RFC 6455, 5.2.
fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    match length {
        0..126 => vec![first, mask | length as u8],
        126..65536 => [&[first, mask | 126], &(length as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask | 127], &(length as u64).to_be_bytes()[..]].concat(),
    }
}

/// What a server answers to the key of a request.
pub(crate) fn accept_key(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// A frame that was received, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// The peer.
pub(crate) struct Raw {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from(dial(address))
    }

    /// A client whose handshake is done.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        let mut peer = Self::connect(address);
        peer.upgrade(path);
        assert_eq!(peer.head().split(' ').nth(1), Some("101"));
        peer
    }

    /// Asks for a WebSocket.
    pub(crate) fn upgrade(&mut self, path: &str) {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the other end reads");
    }

    /// Sends as much as the other end lets it.
    pub(crate) fn send_in_vain(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn reset(self) {
        reset(self.stream);
    }

    /// The next HTTP head.
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.came.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.came.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head of ASCII");
            }
            assert!(self.read(), "the end came within a head: {}", self.came.escape_ascii());
        }
    }

    /// The status and the body of the last response of a connection.
    pub(crate) fn last_response(mut self) -> (u16, String) {
        let head = self.head();
        while self.read() {}
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let connection = lines.find(|(name, _)| name.eq_ignore_ascii_case("connection"));
        assert!(connection.is_some_and(|(_, options)| options.contains("close")), "{head}");
        (status, String::from_utf8_lossy(&self.came).into_owned())
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Got {
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            assert!(self.read(), "the end came within a frame, or without a Close");
        }
    }

    /// The code and reason of the Close that ends the connection, and nothing behind it.
    pub(crate) fn close(mut self) -> (u16, String) {
        let frame = std::iter::repeat_with(|| self.frame()).find(|frame| frame.first == FIN | CLOSE).expect("a Close");
        self.end();
        let (code, reason) = frame.payload.split_first_chunk::<2>().expect("a code");
        (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned())
    }

    /// Nothing more comes, then FIN.
    pub(crate) fn end(&mut self) {
        while self.read() {}
        assert_eq!(self.came.escape_ascii().to_string(), "");
    }

    /// Whether the other end has reset the connection, or does so within the patience of this one.
    pub(crate) fn ends_by_reset(mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let length = self.stream.read(&mut bytes).expect("bytes or FIN, in time");
        self.came.extend(&bytes[..length]);
        length > 0
    }

    fn take_frame(&mut self) -> Option<Got> {
        let came = &self.came;
        let (first, second) = (*came.first()?, *came.get(1)?);
        let (mut length, mut at) = (usize::from(second & 0x7f), 2);
        if length > 125 {
            at = if length == 126 { 4 } else { 10 };
            length = came.get(2..at)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        }
        let mut key = [0; 4];
        if second & 0x80 != 0 {
            key.copy_from_slice(came.get(at..at + 4)?);
            at += 4;
        }
        let payload = came.get(at..at + length)?.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        let payload = payload.collect();
        self.came.drain(..at + length);
        Some(Got { first, payload })
    }
}

impl From<TcpStream> for Raw {
    fn from(stream: TcpStream) -> Self {
        Self { stream: patient(stream), came: Vec::new() }
    }
}
