//! The negotiation of permessage-deflate.

use twistor_websocket::sansio::deflate::{Agreed, DeflateOptions, OfferError, accept_offer, check_response, offer};

use super::input::{assert_printable, choices};

/// Asks for nothing, so accepts whatever a server may answer.
const ANYTHING: DeflateOptions = DeflateOptions {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    level: 1,
    threshold: 0,
};

/// What a server makes of offers, and a client of an answer; the text has one header a line.
pub fn extensions(data: &[u8]) {
    let ([flags, server_bits, client_bits, level, bits], rest) = choices(data);
    let text = String::from_utf8_lossy(rest);
    let server = options(flags, server_bits, client_bits, level);
    let client = options(flags >> 2, bits >> 4, bits & 15, level);
    if let Some((agreed, response)) = accept_offer(text.lines(), &server) {
        assert_agrees(&agreed, &server);
        assert_eq!(answered(&response, &ANYTHING), Ok(of_client(agreed, &ANYTHING)), "{response}");
        if !text.contains([',', '\n']) {
            assert_answers(&text, &agreed, &response, &server);
        }
    }
    match check_response(&text, &client) {
        Ok(None) => assert_eq!(text.trim_matches([' ', '\t']), ""),
        Ok(Some(agreed)) => assert_kept(&agreed, &client),
        Err(error) => assert_printable(&error.to_string()),
    }
    ourselves(&server, &client);
}

fn options(flags: u8, server_bits: u8, client_bits: u8, level: u8) -> DeflateOptions {
    DeflateOptions {
        server_no_context_takeover: flags & 1 != 0,
        client_no_context_takeover: flags & 2 != 0,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
        level,
        threshold: 0,
    }
}

fn answered(response: &str, options: &DeflateOptions) -> Result<Agreed, OfferError> {
    check_response(response, options).map(|agreed| agreed.expect("an answer"))
}

/// What the client with these options makes of what the server agreed to.
fn of_client(agreed: Agreed, options: &DeflateOptions) -> Agreed {
    Agreed {
        client_no_context_takeover: agreed.client_no_context_takeover || options.client_no_context_takeover,
        client_max_window_bits: agreed.client_max_window_bits.min(options.client_max_window_bits.clamp(9, 15)),
        level: options.level,
        threshold: options.threshold,
        ..agreed
    }
}

/// What the answer to a single offer has, has not and may have (RFC 7692, 7.1).
fn assert_answers(offer: &str, agreed: &Agreed, response: &str, options: &DeflateOptions) {
    let offered = |name: &str| offer.to_ascii_lowercase().contains(name);
    for name in ["server_no_context_takeover", "server_max_window_bits"] {
        assert!(!offered(name) || response.contains(name), "{offer}: {response}");
    }
    let limited = "client_max_window_bits";
    assert!(offered(limited) || !response.contains(limited), "{offer}: {response}");
    assert!(!offered(limited) || agreed.client_max_window_bits <= options.client_max_window_bits.clamp(9, 15));
}

/// T17: a server promises no more than it was set up for. What a client does not let it ask for, it does not.
fn assert_agrees(agreed: &Agreed, options: &DeflateOptions) {
    assert!((8..=options.server_max_window_bits.clamp(9, 15)).contains(&agreed.server_max_window_bits));
    assert!((8..=15).contains(&agreed.client_max_window_bits));
    assert!(agreed.server_no_context_takeover || !options.server_no_context_takeover);
    assert!(agreed.client_no_context_takeover || !options.client_no_context_takeover);
    assert_eq!((agreed.level, agreed.threshold), (options.level, options.threshold));
}

/// A client gets what it asked for.
fn assert_kept(agreed: &Agreed, options: &DeflateOptions) {
    assert_agrees(agreed, options);
    assert!((8..=options.client_max_window_bits.clamp(9, 15)).contains(&agreed.client_max_window_bits));
}

/// Any of our clients and any of our servers come to an agreement, and to the same.
fn ourselves(server: &DeflateOptions, client: &DeflateOptions) {
    let offer = offer(client);
    let (agreed, response) = accept_offer([&*offer], server).expect("our own offer");
    assert_agrees(&agreed, server);
    assert_answers(&offer, &agreed, &response, server);
    let of_client = of_client(agreed, client);
    assert_eq!(answered(&response, client), Ok(of_client), "{offer} {response}");
    assert_kept(&of_client, client);
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=15; server_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate;server_no_context_takeover; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=\"12\"; client_no_context_takeover\npermessage-deflate",
        "permessage-deflate; client_max_window_bits=8, permessage-deflate; server_max_window_bits=99",
        "x; y=\"a,\\\"b;c\", permessage-deflate; client_max_window_bits=15 ; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; z=\"\\\\",
        " ,;=\t\"\"",
    ]
    .iter()
    .flat_map(|text| {
        [[0b0110, 12, 9, 3, 0xb8], [0, 15, 15, 1, 0xff]].map(|options| [&options, text.as_bytes()].concat())
    })
    .collect()
}
