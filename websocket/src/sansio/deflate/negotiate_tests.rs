use super::*;

fn accept(offers: &[&str]) -> Option<(Agreed, String)> {
    accept_offer(offers.iter().copied(), &DeflateOptions::default())
}

fn keeping() -> DeflateOptions {
    DeflateOptions { server_no_context_takeover: false, client_no_context_takeover: false, ..DeflateOptions::default() }
}

// P275: what a server that would keep its context answers.
#[test]
fn each_offer_gets_the_answer_of_the_rfc() {
    let cases = [
        ("permessage-deflate", Some("permessage-deflate")),
        ("Permessage-Deflate", Some("permessage-deflate")),
        ("permessage-deflate; client_max_window_bits", Some("permessage-deflate")),
        ("permessage-deflate; client_max_window_bits=10", Some("permessage-deflate; client_max_window_bits=10")),
        ("permessage-deflate; server_max_window_bits=10", Some("permessage-deflate; server_max_window_bits=10")),
        ("permessage-deflate; server_max_window_bits=\"10\"", Some("permessage-deflate; server_max_window_bits=10")),
        ("permessage-deflate; server_max_window_bits=15", Some("permessage-deflate; server_max_window_bits=15")),
        ("permessage-deflate; server_max_window_bits=8", Some("permessage-deflate; server_max_window_bits=8")),
        ("permessage-deflate; client_max_window_bits=8", Some("permessage-deflate; client_max_window_bits=8")),
        ("permessage-deflate; server_no_context_takeover", Some("permessage-deflate; server_no_context_takeover")),
        ("permessage-deflate;client_no_context_takeover", Some("permessage-deflate; client_no_context_takeover")),
        ("x-webkit-deflate-frame, permessage-deflate", Some("permessage-deflate")),
        (
            " , permessage-deflate ; ;\t server_max_window_bits = 9 ,",
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (
            "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        ("x; a=\"permessage-deflate, permessage-deflate\"", None),
        ("permessage-bzip2", None),
        ("", None),
    ];
    for (offer, expected) in cases {
        let answer = accept_offer([offer], &keeping()).map(|(_, answer)| answer);
        assert_eq!(answer.as_deref(), expected, "{offer}");
    }
}

// T17
#[test]
fn impossible_offers_are_declined() {
    for parameter in [
        "client_max_window_bits=0",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=99",
        "client_max_window_bits=08",
        "client_max_window_bits=+9",
        "client_max_window_bits=abc",
        "client_max_window_bits=",
        "client_max_window_bits=\"",
        "client_max_window_bits=\"9",
        "server_max_window_bits",
        "server_max_window_bits=99999999999999999999",
        "server_max_window_bits=-9",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=9",
        "server_max_window_bits=9; server_max_window_bits=9",
        "unknown",
        "=",
        "é=\"\\",
    ] {
        assert_eq!(accept(&[&format!("permessage-deflate; {parameter}")]), None, "{parameter}");
    }
}

// T17
#[test]
fn hostile_lists_take_linear_time_and_a_bounded_number_of_offers() {
    let unclosed = format!("permessage-deflate; a=\"{}", "\\".repeat(1 << 20));
    assert_eq!(accept(&[&unclosed]), None);
    assert_eq!(accept(&[&",".repeat(1 << 20)]), None);
    assert_eq!(accept(&[&format!("permessage-deflate{}", "; ".repeat(1 << 19))]).unwrap().0.level, 1);
    let many = "x, ".repeat(MAX_OFFERS - 1) + "permessage-deflate";
    assert!(accept(&[&many]).is_some());
    assert!(accept(&["x", &many]).is_none());
}

#[test]
fn offers_spread_over_several_headers_are_one_list() {
    let (agreed, _) =
        accept(&["foo, permessage-deflate; bar", "permessage-deflate; server_max_window_bits=9"]).unwrap();
    assert_eq!(agreed.server_max_window_bits, 9);
}

#[test]
fn options_limit_what_is_agreed_on_and_cannot_be_out_of_range() {
    let options = DeflateOptions { server_max_window_bits: 10, client_max_window_bits: 0, ..keeping() };
    let (agreed, answer) = accept_offer(["permessage-deflate; client_max_window_bits=12"], &options).unwrap();
    assert_eq!(answer, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9");
    assert_eq!((agreed.server_max_window_bits, agreed.client_max_window_bits), (10, 9));
    // RFC 7692, 7.1.2.2: a client that did not offer to be limited cannot be.
    let (agreed, answer) = accept_offer(["permessage-deflate"], &options).unwrap();
    assert_eq!(answer, "permessage-deflate; server_max_window_bits=10");
    assert_eq!(agreed.client_max_window_bits, 15);
}

#[test]
fn both_ends_agree_on_whatever_the_server_answers() {
    for bits in [0, 9, 12, 15, 99] {
        for flags in 0..16 {
            let of = |shift: u8| DeflateOptions {
                server_no_context_takeover: flags >> shift & 1 != 0,
                client_no_context_takeover: flags >> shift & 2 != 0,
                server_max_window_bits: bits,
                client_max_window_bits: 24 - bits.min(24),
                ..DeflateOptions::default()
            };
            let (client, server) = (of(0), of(2));
            let (here, answer) = accept_offer([&*offer(&client)], &server).unwrap();
            let there = check_response(&answer, &client).unwrap().unwrap();
            assert_eq!(here, there, "{} -> {answer}", offer(&client));
        }
    }
}

// T62, P275
#[test]
fn a_response_that_does_not_answer_the_offer_fails_the_client() {
    let narrow = DeflateOptions { server_max_window_bits: 10, ..keeping() };
    let default = DeflateOptions::default();
    let cases = [
        (&default, "permessage-deflate", OfferError::Ignored(SERVER_NO_TAKEOVER)),
        (&narrow, "permessage-deflate", OfferError::Ignored(SERVER_BITS)),
        (&narrow, "permessage-deflate; server_max_window_bits=11", OfferError::Ignored(SERVER_BITS)),
        (&narrow, "permessage-deflate; server_max_window_bits=99", OfferError::InvalidValue(SERVER_BITS)),
        (&narrow, "permessage-deflate; client_max_window_bits", OfferError::InvalidValue(CLIENT_BITS)),
        (
            &narrow,
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            OfferError::Duplicate(SERVER_BITS),
        ),
        (&narrow, "permessage-deflate; foo", OfferError::UnknownParameter),
        (&narrow, "foo", OfferError::UnrequestedExtension),
        (&narrow, "permessage-deflate; server_max_window_bits=9, foo", OfferError::UnrequestedExtension),
        (&narrow, "permessage-deflate; a=\"", OfferError::Malformed),
        (&narrow, "permessage-deflate; server_max_window_bits=9, \"", OfferError::Malformed),
    ];
    for (options, response, expected) in cases {
        assert_eq!(check_response(response, options), Err(expected), "{response}");
    }
    assert_eq!(check_response(" ", &default), Ok(None));
    let limited = check_response("permessage-deflate; client_max_window_bits=8", &keeping()).unwrap().unwrap();
    assert_eq!(limited.client_max_window_bits, 8);
}
