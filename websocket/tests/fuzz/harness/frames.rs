//! Streams of frames, as a server and as a client receives them.

use twistor_websocket::sansio::{
    Delivery, Event, FrameError, Limits, MAX_REASON, Receiver, Role,
    deflate::{Agreed, Contexts, Inflater},
};

use super::{
    input::{Cut, choices},
    oracle::judge,
    wire::build,
};

/// The stream is made of the input's payloads, so that lengths and masks are right. Otherwise it is the input.
pub const BUILT: u8 = 1;
/// permessage-deflate was negotiated, ...
pub const DEFLATE: u8 = 2;
/// ... with context takeover.
pub const TAKEOVER: u8 = 4;

const SIZES: [usize; 8] = [0, 1, 125, 126, 1000, 10_000, 66_000, 200_000];
const FRAGMENTS: [u32; 4] = [1, 2, 5, 1024];

/// With so much of a large message it may get a buffer that was used before, of whatever size.
const SPARE_FROM: usize = 16 * 1024;

/// What is inflated at a time, to be delivered as it comes.
const CHUNK: usize = 64 * 1024;

/// How messages are asked for.
#[derive(Debug, Clone, Copy)]
enum Way {
    Messages,
    /// As [`Way::Messages`], and input is put into the receiver's room as long as it has some.
    Filling,
    Frames,
    /// Now one, now the other, from one input to the next.
    Alternating,
}

/// Events and the error at their end.
type Outcome = (Vec<Seen>, Option<FrameError>);

/// An event that owns what it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Begin(bool),
    FrameBegin(u64),
    Data(Vec<u8>),
    FrameEnd,
    End,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// What a server makes of a client's frames.
pub fn server_frames(data: &[u8]) {
    frames(Role::Server, data);
}

/// What a client makes of a server's frames.
pub fn client_frames(data: &[u8]) {
    frames(Role::Client, data);
}

fn frames(role: Role, data: &[u8]) {
    let ([flags, sizes, low, high, length], rest) = choices(data);
    let setup = Setup::new(role, flags, sizes);
    let built = if flags & BUILT != 0 { Some(build(role, rest)) } else { None };
    let wire = built.as_deref().unwrap_or(rest);
    let chosen = Cut::At(u16::from_le_bytes([low, high]), length);

    // T50: messages and errors do not depend on how the stream arrives.
    let messages = setup.see(Way::Messages, wire, Cut::Nowhere);
    let streamed = setup.see(Way::Frames, wire, Cut::Nowhere);
    for cut in [Cut::EveryByte, chosen] {
        assert_eq!(setup.see(Way::Messages, wire, cut), messages, "{cut:?}");
        let cut_stream = setup.see(Way::Frames, wire, cut);
        if setup.deflate.is_some() {
            assert_same_deflated_stream(&cut_stream, &streamed);
        } else {
            assert_eq!(without_unjudged_data(cut_stream), without_unjudged_data(streamed.clone()), "{cut:?}");
        }
    }

    // Nor does what is delivered as it comes differ from whole messages.
    assert_eq!(setup.see(Way::Filling, wire, chosen), messages);
    for (seen, error) in [&streamed, &setup.see(Way::Alternating, wire, chosen)] {
        let collected = (collect(seen), *error);
        if setup.deflate.is_none() || error.is_none() {
            assert_eq!(collected, messages);
        } else {
            // But the contents of a message can fail before its end, and so before what fails the whole message.
            assert!(messages.0.starts_with(&collected.0), "{collected:?} {messages:?}");
        }
    }

    if setup.deflate.is_none() {
        assert_frames_have_their_lengths(&streamed.0);
    }
    setup.assert_judged(wire, messages);
}

/// How the receivers are set up.
struct Setup {
    role: Role,
    limits: Limits,
    deflate: Option<Agreed>,
}

impl Setup {
    fn new(role: Role, flags: u8, sizes: u8) -> Self {
        let limits = Limits {
            max_message: SIZES[usize::from(sizes & 7)],
            max_frame: SIZES[usize::from(sizes >> 3 & 7)],
            max_fragments: FRAGMENTS[usize::from(sizes >> 6)],
        };
        let deflate = (flags & DEFLATE != 0).then(|| agreed(flags & TAKEOVER != 0));
        Self { role, limits, deflate }
    }

    fn see(&self, way: Way, wire: &[u8], cut: Cut) -> Outcome {
        let mut receiver = Receiver::new(self.role, self.limits);
        if let Some(agreed) = &self.deflate {
            receiver.set_inflater(Inflater::new(agreed, self.role, &Contexts::of_thread()));
        }
        let (mut outcome, mut fed, mut bytes) = ((Vec::new(), None), 0, Vec::new());
        for (count, mut piece) in cut.pieces(wire).into_iter().enumerate() {
            match way {
                Way::Alternating if count % 2 == 1 => receiver.set_delivery(Delivery::Messages),
                Way::Alternating | Way::Frames => receiver.set_delivery(Delivery::Frames),
                Way::Messages | Way::Filling => {}
            }
            fed += piece.len();
            while let (Way::Filling, Some(room), 1..) = (way, receiver.room(), piece.len()) {
                assert!(!room.is_empty());
                let (now, later) = piece.split_at(room.len().min(piece.len()));
                room[..now.len()].copy_from_slice(now);
                receiver.filled(now.len());
                drain(&mut receiver, &mut [], &mut outcome, |receiver| self.assert_bounded(receiver, way, fed));
                piece = later;
            }
            bytes.clear();
            bytes.extend_from_slice(piece);
            drain(&mut receiver, &mut bytes, &mut outcome, |receiver| self.assert_bounded(receiver, way, fed));
        }
        outcome
    }

    /// The messages and the close code are those of the plain reader; what is in compressed ones has no second opinion.
    fn assert_judged(&self, wire: &[u8], (seen, error): Outcome) {
        let (mut expected, mut code) = judge(wire, self.role, &self.limits, self.deflate.is_some());
        if let (Some(Seen::End), Some(error)) = (expected.get(seen.len()), error.filter(of_content)) {
            expected.truncate(seen.len());
            code = Some(error.close_code());
        }
        for (expected, seen) in expected.iter_mut().zip(&seen) {
            if matches!((&expected, seen), (Seen::End, Seen::Text(_) | Seen::Binary(_))) {
                *expected = seen.clone();
            }
        }
        assert_eq!((seen, error.map(|error| error.close_code())), (expected, code));
    }

    /// T28, T29, T31: memory grows with what has come, not with what is announced, and ends at the limit.
    fn assert_bounded(&self, receiver: &Receiver, way: Way, fed: usize) {
        const LEAST: usize = 8; // of a Vec
        const CONTROL: usize = 2 * 125;
        let mut collected = 2 * self.limits.max_message.min(fed) + LEAST;
        if fed >= SPARE_FROM {
            collected = collected.max(2 * SIZES[SIZES.len() - 1]);
        }
        let inflated = self.limits.max_message + 1;
        let bound = match (way, self.deflate) {
            (Way::Frames, None) => 0,
            (Way::Frames, Some(_)) => CHUNK,
            (_, None) => collected,
            (Way::Messages | Way::Filling, Some(_)) => collected.max(inflated),
            (Way::Alternating, Some(_)) => collected.max(inflated).max(CHUNK),
        };
        assert!(receiver.buffered() <= bound + CONTROL, "{} bytes of {fed}", receiver.buffered());
    }
}

pub fn agreed(takeover: bool) -> Agreed {
    Agreed {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        level: 1,
        threshold: 0,
    }
}

/// Takes all that is to be had from one input.
fn drain(receiver: &mut Receiver, mut input: &mut [u8], outcome: &mut Outcome, assert_bounded: impl Fn(&Receiver)) {
    let (seen, error) = outcome;
    let is_over = |seen: &[Seen], error: Option<_>| error.is_some() || matches!(seen.last(), Some(Seen::Close(_)));
    loop {
        let over = is_over(seen, *error);
        match receiver.next(&mut input) {
            Ok(None) => break,
            _ if over => panic!("an event after the end"),
            Ok(Some(event)) => push(seen, event),
            Err(wrong) => {
                assert!(wrong.to_string().len() <= MAX_REASON);
                *error = Some(wrong);
            }
        }
        assert_bounded(receiver);
    }
    assert_bounded(receiver);
    assert!(input.is_empty(), "None means that the input is used up");
    let over = is_over(seen, *error);
    assert!(over || !receiver.has_due(), "None means that more input is needed");
    if over || receiver.is_between_messages() {
        assert_eq!(receiver.buffered(), 0, "nothing is kept between messages and after the end");
    }
}

/// Adjacent pieces of data become one.
fn push(seen: &mut Vec<Seen>, event: Event<'_>) {
    let event = match (seen.last_mut(), event) {
        (Some(Seen::Data(before)), Event::Data(piece)) => return before.extend(piece),
        (_, Event::Data(piece)) => Seen::Data(piece.into()),
        (_, Event::Text(text)) => Seen::Text(text.into()),
        (_, Event::Binary(bytes)) => Seen::Binary(bytes.into()),
        (_, Event::Begin { text }) => Seen::Begin(text),
        (_, Event::FrameBegin { length }) => Seen::FrameBegin(length),
        (_, Event::FrameEnd) => Seen::FrameEnd,
        (_, Event::End) => Seen::End,
        (_, Event::Ping(payload)) => Seen::Ping(payload.into()),
        (_, Event::Pong(payload)) => Seen::Pong(payload.into()),
        (_, Event::Close(close)) => Seen::Close(close.map(|close| (close.code, close.reason.into()))),
    };
    seen.push(event);
}

/// Puts together the messages of a stream. Text is text at every moment (T34).
fn collect(streamed: &[Seen]) -> Vec<Seen> {
    let (mut collected, mut is_text, mut payload) = (Vec::new(), false, Vec::new());
    for event in streamed {
        match event {
            Seen::Begin(text) => is_text = *text,
            Seen::Data(data) => payload.extend_from_slice(data),
            Seen::FrameBegin(_) | Seen::FrameEnd => {}
            Seen::End if is_text => {
                let text = String::from_utf8(std::mem::take(&mut payload));
                collected.push(Seen::Text(text.expect("a finished text is UTF-8")));
            }
            Seen::End => collected.push(Seen::Binary(std::mem::take(&mut payload))),
            event => collected.push(event.clone()),
        }
    }
    let wrong = std::str::from_utf8(&payload).err().and_then(|error| error.error_len());
    assert!(!is_text || wrong.is_none(), "text is valid as far as it has come");
    collected
}

/// The data before an error is delivered as far as it came with earlier pieces, so depends on the cut.
fn without_unjudged_data((mut seen, error): Outcome) -> Outcome {
    if error.is_some() && matches!(seen.last(), Some(Seen::Data(_))) {
        seen.pop();
    }
    (seen, error)
}

/// What was inflated together is judged together: where several things are wrong with it, any may be told.
fn assert_same_deflated_stream(a: &Outcome, b: &Outcome) {
    assert_eq!(collect(&a.0), collect(&b.0));
    let any = FrameError::CorruptDeflate;
    let told = |error: FrameError| if of_content(&error) { any } else { error };
    assert_eq!(a.1.map(told), b.1.map(told));
    if a.1.is_none() {
        assert_eq!(a.0, b.0);
    }
}

/// Whether the error can be in what a message inflates to.
fn of_content(error: &FrameError) -> bool {
    matches!(error, FrameError::CorruptDeflate | FrameError::InvalidText | FrameError::InflatedTooBig(_))
}

fn assert_frames_have_their_lengths(streamed: &[Seen]) {
    let (mut announced, mut came) = (0, 0);
    for event in streamed {
        match event {
            Seen::FrameBegin(length) => (announced, came) = (*length, 0),
            Seen::Data(data) => came = data.len() as u64,
            Seen::FrameEnd => assert_eq!(came, announced),
            _ => {}
        }
    }
}
