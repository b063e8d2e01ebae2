//! Reads the head of the response that a client or a proxy's client waits for.

use crate::http::{HeadError, HeadLimits, HeadReader, ResponseHead};

use super::HandshakeError;

/// How many 1xx heads may come before the answer: a `100 Continue` or some `103 Early Hints`, but no flood.
const MAX_INTERIM: usize = 8;

/// Reads one response head in any number of pieces, skipping the interim ones before it.
#[derive(Debug)]
pub struct ResponseReader {
    head: HeadReader,
    limits: HeadLimits,
    interim: usize,
}

impl ResponseReader {
    /// A reader before the first byte.
    pub fn new(limits: HeadLimits) -> Self {
        Self { head: HeadReader::responses(), limits, interim: 0 }
    }

    /// Takes the response head from the front of `input` and leaves what follows: a body, or the first frames.
    ///
    /// `Ok(None)` has taken all of the input and waits for more.
    ///
    /// # Errors
    ///
    /// For what is no HTTP/1.x, for a malformed or too large head, and after eight interim responses.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ResponseHead>, HandshakeError> {
        while let Some(head) = self.head.response(input, &self.limits).map_err(|error| self.failed(error))? {
            // RFC 9110, 15.2: a client must be able to parse interim responses, even unexpected ones.
            if !head.status.is_informational() || head.status == 101 {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(HandshakeError::TooManyInterim { limit: MAX_INTERIM });
            }
        }
        Ok(None)
    }

    fn failed(&self, error: HeadError) -> HandshakeError {
        HandshakeError::from_head(error, &self.limits)
    }
}
