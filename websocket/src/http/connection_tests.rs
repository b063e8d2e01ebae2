use proptest::prelude::*;

use super::*;

fn connection() -> Connection {
    Connection::new(None, Limits::default())
}

/// Feeds everything and tells each request (method, path, body), or the status of the final error.
fn outcomes<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut connection, mut seen) = (connection(), Vec::new());
    for mut piece in pieces {
        loop {
            match connection.feed(&mut piece) {
                Ok(Some(request)) => {
                    let body = String::from_utf8_lossy(request.body()).into_owned();
                    seen.push(format!("{} {} {body}", request.method(), request.path()));
                }
                Ok(None) => break assert!(piece.is_empty(), "Ok(None) takes all of the input"),
                Err(answer) => {
                    assert!(answer.closes() && !answer.body().is_empty());
                    seen.push(answer.status_code().as_str().into());
                }
            }
        }
    }
    seen
}

fn refused(request: &str) -> u16 {
    let answer = connection().feed(&mut request.as_bytes()).expect_err(request);
    let mut out = Vec::new();
    answer.encode(&mut out, false, true);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\r\nConnection: close\r\n") && text.contains("\r\n\r\nexpected "), "{text}");
    answer.status_code().as_u16()
}

#[test]
fn requests_are_taken_one_at_a_time_and_what_follows_stays() {
    // T12
    let mut input: &[u8] =
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: x\r\n\r\n\x81\x00";
    let mut connection = connection();
    let first = connection.feed(&mut input).unwrap().unwrap();
    assert_eq!((first.path(), first.body()), ("/a", &b"abc"[..]));
    assert!(input.starts_with(b"GET /b"));
    assert_eq!(connection.feed(&mut input).unwrap().unwrap().path(), "/b");
    assert_eq!(input, b"\x81\x00");
}

#[test]
fn after_a_request_that_closes_nothing_is_read() {
    let input = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(outcomes([&input[..], b"\x16"]), ["GET /a "]);
    assert_eq!(outcomes([&b"\x16 GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"GET /b"]), ["400"]);
}

#[test]
fn what_the_grammar_forbids_is_answered_with_400() {
    // T6, T10
    for head in [
        "GET / HTTP/1.1\r\n",                       // no Host
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", // two
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n",
        "GET / HTTP/1.1\r\nHost: a:99999\r\n",
        "GET / HTTP/1.1\r\nHost: \u{e9}\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n", // absolute-form
        "GET a HTTP/1.1\r\nHost: a\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n",
        "GET /#f HTTP/1.1\r\nHost: a\r\n", // fragment
        "GET /?q#f HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n", // NUL
        "GET /\0 HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n", // obs-fold
        "GET / HTTP/1.1\r\n Host: a\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n", // space before the colon
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n", // bare CR
        "GET  / HTTP/1.1\r\nHost: a\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n",
        "GET /\r\nHost: a\r\n", // HTTP/0.9
        "GET / FTP/1.1\r\nHost: a\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n",
    ] {
        assert_eq!(refused(&format!("{head}\r\n")), 400, "{head}");
    }
}

#[test]
fn other_versions_and_sizes_have_their_own_answer() {
    // T3, T4, T6
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_eq!(refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    assert_eq!(refused("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 505);
    assert_eq!(refused(&format!("GET /{}", "a".repeat(9000))), 414);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(9000))), 431);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}", format!("X: {}\r\n", "a".repeat(6000)).repeat(3))), 431);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}", "X: a\r\n".repeat(2000))), 431);
}

#[test]
fn a_tls_hello_is_told_from_other_noise() {
    // T66
    let text = |input: &[u8]| String::from_utf8(connection().feed(&mut &*input).unwrap_err().body().to_vec()).unwrap();
    assert!(text(b"\x16\x03\x01").contains("TLS"));
    assert!(text(b"\x80\x03\x01").contains(r#""\x80" came"#));
}

#[test]
fn ambiguous_lengths_are_refused() {
    // T11
    for (fields, status) in [
        ("Content-Length: 3\r\nContent-Length: 3\r\n", 400),
        ("Content-Length: 3, 3\r\n", 400),
        ("Content-Length: +3\r\n", 400),
        ("Content-Length: -3\r\n", 400),
        ("Content-Length: 3x\r\n", 400),
        ("Content-Length: 0x3\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 65537\r\n", 413),
        ("Content-Length: 99999999999999999999999999999999\r\n", 413),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: Chunked\r\n", 411),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", 501),
        ("Transfer-Encoding: chunked\r\nUpgrade: WebSocket\r\n", 400),
        ("Expect: 200-ok\r\n", 417),
        ("Expect: 100-continue, more\r\n", 417),
    ] {
        assert_eq!(refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nabc")), status, "{fields}");
    }
    assert_eq!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn a_body_costs_only_what_came_of_it() {
    // T29
    let mut connection = connection();
    assert!(
        connection.feed(&mut &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\nabc"[..]).unwrap().is_none()
    );
    let Phase::Body(request, missing) = &connection.phase else { panic!("{connection:?}") };
    assert_eq!((request.body(), *missing), (&b"abc"[..], 65533));
    let request = connection.feed(&mut vec![b'x'; 65533].as_slice()).unwrap().unwrap();
    assert_eq!(request.body().len(), 65536);
    assert!(connection.is_idle());
}

#[test]
fn a_client_that_waits_for_100_is_told_once_to_go_on() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
    let mut waits = connection();
    assert!(waits.feed(&mut head.as_bytes()).unwrap().is_none());
    assert_eq!(waits.interim(), Some(CONTINUE));
    assert_eq!(waits.interim(), None);
    assert_eq!(waits.feed(&mut &b"abc"[..]).unwrap().unwrap().body(), b"abc");

    let mut goes_on = connection();
    assert!(goes_on.feed(&mut format!("{head}a").as_bytes()).unwrap().is_none());
    assert_eq!(goes_on.interim(), None);
    let mut old = connection();
    assert!(old.feed(&mut head.replace("1.1", "1.0").as_bytes()).unwrap().is_none());
    assert_eq!(old.interim(), None);
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut connection = connection();
    assert!(connection.is_idle());
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na";
    for byte in request {
        assert!(connection.feed(&mut &[*byte][..]).is_ok());
    }
    assert!(matches!(connection.phase, Phase::Head) && connection.head.is_idle());
    assert!(size_of::<Connection>() <= 200, "{}", size_of::<Connection>());
}

proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_requests(
        requests in proptest::collection::vec(prop_oneof![
            Just("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"),
            Just("\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"),
            Just("POST /c HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n\r\n"),
            Just("GET /d HTTP/1.1\nHost: x\n\n"),
            Just("GET /e HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            Just("GET /f HTTP/1.1\r\n\r\n"),
            Just("\x16\x03"),
        ], 0..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let input = requests.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).chain([0, input.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]);
        prop_assert_eq!(outcomes(pieces), outcomes([&input[..]]));
        prop_assert_eq!(outcomes(input.chunks(1)), outcomes([&input[..]]));
    }
}
