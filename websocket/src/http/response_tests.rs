use super::*;

fn encoded(response: &Response, head_only: bool, keep_alive: bool) -> String {
    let mut out = Vec::new();
    response.encode(&mut out, head_only, keep_alive);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_response_tells_its_length_and_what_becomes_of_the_connection() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\nConnection: ";
    let response = Response::text("hello");
    assert_eq!(encoded(&response, false, true), format!("{head}keep-alive\r\n\r\nhello"));
    assert_eq!(encoded(&response, false, false), format!("{head}close\r\n\r\nhello"));
    assert_eq!(encoded(&response, true, true), format!("{head}keep-alive\r\n\r\n"), "HEAD");
    assert_eq!(encoded(&response.close(), false, true), format!("{head}close\r\n\r\nhello"));
}

#[test]
fn an_answer_that_cannot_have_a_body_has_none() {
    let response = Response::text("x").status(StatusCode::NO_CONTENT);
    let text = encoded(&response, false, true);
    assert!(!text.contains("Content-Length") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn the_empty_body_of_another_status_has_its_length() {
    let text = encoded(&Response::new(StatusCode::OK), false, true);
    assert!(text.contains("Content-Length: 0\r\n"), "{text}");
}

#[test]
fn line_ends_in_headers_are_refused_at_construction() {
    // T18
    for value in ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\x7f"] {
        let refused = Response::text("").header("X-A", value).unwrap_err();
        assert!(matches!(refused, InvalidHeader::Value { .. }), "{value:?}");
        assert!(!refused.to_string().contains(['\r', '\n', '\0', '\x7f']));
        assert!(Response::redirect(value).is_err());
        assert!(Response::bytes(value, "").is_err());
        assert!(Response::text("").add_header("X-A", value).is_err());
    }
    for name in ["", "a b", "a:", "a\r\nb", "é"] {
        assert!(matches!(Response::text("").header(name, "x"), Err(InvalidHeader::Name(_))), "{name:?}");
    }
}

#[test]
fn framing_headers_belong_to_the_encoder() {
    for name in ["Content-Length", "transfer-encoding", "CONNECTION"] {
        assert!(matches!(Response::text("").header(name, "x"), Err(InvalidHeader::Reserved(_))), "{name}");
    }
}

#[test]
fn header_replaces_and_add_header_adds() {
    let response = Response::text("").header("content-type", "a/b").unwrap();
    let response = response.add_header("Set-Cookie", "a=1").unwrap().add_header("Set-Cookie", "b=2").unwrap();
    let names: Vec<_> = response.headers().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(names, [("content-type", "a/b"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
}

#[test]
fn an_error_closes_and_is_no_page() {
    let text = encoded(&Response::error(StatusCode::BAD_REQUEST, "expected <b>"), false, true);
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    assert!(
        text.contains("Content-Type: text/plain") && text.contains("X-Content-Type-Options: nosniff\r\n"),
        "{text}"
    );
    assert!(text.contains("Connection: close\r\n") && text.ends_with("\r\n\r\nexpected <b>\n"), "{text}");
}

#[test]
fn a_redirect_has_its_location() {
    let response = Response::redirect("/login").unwrap().status(StatusCode::SEE_OTHER);
    assert!(encoded(&response, false, true).starts_with("HTTP/1.1 303 See Other\r\nLocation: /login\r\n"));
}
