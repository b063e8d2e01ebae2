//! What holds for any bytes, however they are cut into inputs.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    tests::{Seen, deflated, feed, frame, inflating},
    *,
};

/// A message, its fragments' lengths modulo what is left, and the payload of a ping after each fragment.
#[derive(Debug, Clone)]
struct Plan {
    text: bool,
    compressed: bool,
    payload: String,
    fragments: Vec<(usize, Option<Vec<u8>>)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let fragment = (0usize..300, proptest::option::of(vec(any::<u8>(), 0..=125)));
    let payload = prop_oneof!["\\PC{0,40}", "[a-d]{0,9}".prop_map(|text| text.repeat(20_000))];
    (any::<bool>(), any::<bool>(), payload, vec(fragment, 0..5))
        .prop_map(|(text, compressed, payload, fragments)| Plan { text, compressed, payload, fragments })
}

impl Plan {
    /// Appends the frames to `wire`, and what they are to be seen as in either delivery.
    fn write(&self, wire: &mut Vec<u8>, messages: &mut Vec<Seen>, frames: &mut Vec<Seen>) {
        let payload = self.payload.as_bytes();
        let sent = if self.compressed { deflated(payload) } else { payload.to_vec() };
        let mut first = if self.text { 1 } else { 2 } | if self.compressed { 0x40 } else { 0 };
        let mut rest = &sent[..];
        frames.push(Seen::Begin(self.text));
        for (length, ping) in &self.fragments {
            let (now, later) = rest.split_at(length % (rest.len() + 1));
            rest = later;
            wire.extend(frame(first, now));
            first = 0;
            frames.extend([Seen::FrameBegin(now.len() as u64), Seen::Data(now.into()), Seen::FrameEnd]);
            if let Some(ping) = ping {
                wire.extend(frame(0x89, ping));
                messages.push(Seen::Ping(ping.clone()));
                frames.push(Seen::Ping(ping.clone()));
            }
        }
        wire.extend(frame(0x80 | first, rest));
        frames.extend([Seen::FrameBegin(rest.len() as u64), Seen::Data(rest.into()), Seen::FrameEnd, Seen::End]);
        messages.push(if self.text { Seen::Text(self.payload.clone()) } else { Seen::Binary(payload.into()) });
    }
}

/// Everything a receiver says to `wire`, cut at these places.
fn see(delivery: Delivery, wire: &[u8], cuts: &[Index]) -> (Vec<Seen>, Result<(), FrameError>) {
    see_by(feed, delivery, wire, cuts)
}

/// As [`feed`], but puts into the receiver's room what it has room for.
fn fill(receiver: &mut Receiver, mut input: &[u8], seen: &mut Vec<Seen>) -> Result<(), FrameError> {
    while let Some(room) = receiver.room().filter(|_| !input.is_empty()) {
        let (now, later) = input.split_at(room.len().min(input.len()));
        room[..now.len()].copy_from_slice(now);
        input = later;
        receiver.filled(now.len());
        feed(receiver, &[], seen)?;
    }
    feed(receiver, input, seen)
}

type Feed = fn(&mut Receiver, &[u8], &mut Vec<Seen>) -> Result<(), FrameError>;

fn see_by(feed: Feed, delivery: Delivery, wire: &[u8], cuts: &[Index]) -> (Vec<Seen>, Result<(), FrameError>) {
    let mut receiver = inflating(Limits { max_message: 400_000, ..Limits::default() }, delivery);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    cuts.push(wire.len());
    cuts.sort_unstable();
    let (mut seen, mut from) = (Vec::new(), 0);
    for cut in cuts {
        if let Err(error) = feed(&mut receiver, &wire[from..cut], &mut seen) {
            feed(&mut receiver, &wire[cut..], &mut Vec::new()).unwrap();
            return (seen, Err(error));
        }
        from = cut;
    }
    (seen, Ok(()))
}

/// All data of a message as one: pieces are cut as the input is, and inflation does not keep to frames.
fn data(seen: &[Seen]) -> Vec<u8> {
    seen.iter().flat_map(|seen| if let Seen::Data(data) = seen { &data[..] } else { &[] }).copied().collect()
}

fn without_data(seen: Vec<Seen>) -> Vec<Seen> {
    seen.into_iter().filter(|seen| !matches!(seen, Seen::Data(_))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    // P256, T50
    #[test]
    fn valid_messages_arrive_unchanged_wherever_the_input_is_cut(
        plans in vec(plan(), 1..4),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let (mut wire, mut messages, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        for plan in &plans {
            plan.write(&mut wire, &mut messages, &mut frames);
        }
        let filled = see_by(fill, Delivery::Messages, &wire, &cuts);
        prop_assert!(filled == (messages.clone(), Ok(())));
        prop_assert!(see(Delivery::Messages, &wire, &cuts) == (messages, Ok(())));

        let (seen, result) = see(Delivery::Frames, &wire, &cuts);
        prop_assert_eq!(result, Ok(()));
        let payload: Vec<u8> = plans.iter().flat_map(|plan| plan.payload.bytes()).collect();
        prop_assert!(data(&seen) == payload);
        prop_assert_eq!(without_data(seen), without_data(frames));
    }

    // T50: whatever the peer sends, and without a panic.
    #[test]
    fn damaged_messages_are_judged_the_same_wherever_the_input_is_cut(
        plans in vec(plan(), 1..4),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let mut wire = Vec::new();
        for plan in &plans {
            plan.write(&mut wire, &mut Vec::new(), &mut Vec::new());
        }
        for (at, byte) in damage {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        prop_assert!(see(Delivery::Messages, &wire, &[]) == see(Delivery::Messages, &wire, &cuts));
        prop_assert!(see(Delivery::Messages, &wire, &[]) == see_by(fill, Delivery::Messages, &wire, &cuts));
        let _ = see(Delivery::Frames, &wire, &cuts);
    }

    #[test]
    fn noise_never_panics_and_is_judged_the_same_wherever_it_is_cut(
        wire in vec(any::<u8>(), 0..300),
        first in prop::sample::select(vec![0x81u8, 0x82, 0x01, 0xc1, 0xc2, 0x88, 0x89]),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let wire = [frame(first, b""), wire].concat();
        prop_assert_eq!(see(Delivery::Messages, &wire, &[]), see(Delivery::Messages, &wire, &cuts));
        let _ = see(Delivery::Frames, &wire, &cuts);
    }
}
