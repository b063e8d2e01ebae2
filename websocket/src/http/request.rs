//! What user code sees of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use twistor_reactor::Address;

use super::head::RequestHead;
use super::{Authority, Connection, Limits, Response, has_token, list};

/// A whole request: its head and its body.
///
/// A site routes by [`path_segments`](Self::path_segments), a WebSocket protocol decides by it in its negotiation.
///
/// ```
/// use twistor_websocket::http::Request;
///
/// let request = Request::parse(
///     b"GET /rooms/caf%C3%A9?since=12&q=a+b HTTP/1.1\r\nHost: chat.example\r\nCookie: id=7\r\n\r\n",
/// )?;
/// assert_eq!(request.path(), "/rooms/caf%C3%A9");
/// assert_eq!(request.path_segments().collect::<Vec<_>>(), ["rooms", "café"]);
/// assert_eq!(request.query_value("q").as_deref(), Some("a b"));
/// assert_eq!(request.cookie("id"), Some("7"));
/// assert_eq!(request.host(), Some("chat.example"));
/// # Ok::<(), twistor_websocket::http::Response>(())
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    target: PathAndQuery,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    peer: Option<Address>,
}

impl Request {
    /// A request from its text, for the tests of what handles requests. What follows the request is ignored.
    ///
    /// # Errors
    ///
    /// The answer a server gives to that text: 400 also when the request is incomplete.
    pub fn parse(mut text: &[u8]) -> Result<Self, Response> {
        let whole = Connection::new(None, Limits::default()).feed(&mut text)?;
        whole
            .ok_or_else(|| Response::error(StatusCode::BAD_REQUEST, "expected a whole request, but its end is missing"))
    }

    pub(super) fn new(head: RequestHead, peer: Option<Address>) -> Self {
        let RequestHead { method, target, version, headers } = head;
        Self { method, target, version, headers, body: Vec::new(), peer }
    }

    /// Appends to the body; the connection has checked its length.
    pub(super) fn extend_body(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// The method; an unknown one is none of the constants of [`Method`].
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path as it was sent, percent signs and all. Begins with `/`.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The path's segments, each percent-decoded by itself, so that `%2F` within one does not split it.
    ///
    /// Bytes that are not UTF-8 become U+FFFD. `/` has one empty segment, `/a/` the segments `a` and an empty one.
    /// `..` is handed out as it came: who maps segments to files must refuse it.
    pub fn path_segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let segments = self.path().split('/').skip(1);
        segments.map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8_lossy())
    }

    /// What follows the `?`, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The query's names and values in their order, decoded as `application/x-www-form-urlencoded`.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The first value of that name in the query.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// HTTP/1.0 or HTTP/1.1.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The header fields, in the order they came within each name.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first value of a header field, if it is UTF-8. Names are found in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// The first cookie of that name; as it was sent, quotes included (RFC 6265, 5.4).
    pub fn cookie(&self, name: &str) -> Option<&str> {
        // RFC 6265, 5.4: octets; what is wrong with one cookie is not the others' fault
        let lines = self.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let mut pairs = lines.flat_map(|line| line.split(|&byte| byte == b';')).filter_map(|pair| {
            let (key, value) = pair.split_at(pair.iter().position(|&byte| byte == b'=')?);
            (key.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
        });
        pairs.next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The `Host` field: `host` or `host:port`, checked to be that. Only an HTTP/1.0 request can be without.
    pub fn host(&self) -> Option<&str> {
        self.header("host")
    }

    /// The `Origin` field, which browsers send with every WebSocket handshake (RFC 6455, 10.2).
    pub fn origin(&self) -> Option<&str> {
        self.header("origin")
    }

    /// The body; empty without one.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The other end of the TCP connection: the last proxy, if there is one.
    pub fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// The client's address as told by the outermost of `trusted_hops` proxies of yours, by `X-Forwarded-For`.
    ///
    /// Every proxy appends the address it was called from, so with one trusted proxy only the right-most address is a
    /// fact and whatever stands left of it is the client's say (threat: spoofing). `trusted_hops` is Autobahn's
    /// `trustXForwardedFor`: with fewer addresses than hops the left-most one is taken. `None` without the field, for
    /// zero hops, and when the text there is no address; a port is cut off.
    pub fn forwarded_for(&self, trusted_hops: usize) -> Option<IpAddr> {
        let addresses: Vec<&[u8]> = list(&self.headers, "x-forwarded-for").collect();
        let trusted = addresses.get(addresses.len().saturating_sub(trusted_hops)..)?;
        let address = std::str::from_utf8(trusted.first()?).ok()?;
        let bare = || address.parse().ok();
        bare().or_else(|| Authority::parse(address)?.host.parse().ok())
    }

    /// Whether the connection may serve another request after this one (RFC 9112, 9.3).
    pub fn keep_alive(&self) -> bool {
        let has = |option| has_token(&self.headers, header::CONNECTION, option);
        !has("close") && (self.version == Version::HTTP_11 || has("keep-alive"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str, fields: &str) -> Request {
        Request::parse(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        let request = get("/a%2Fb/%FF/../", "");
        assert_eq!(request.path_segments().collect::<Vec<_>>(), ["a/b", "\u{fffd}", "..", ""]);
        assert_eq!(get("/", "").path_segments().collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn the_query_is_decoded_and_repeated_names_are_kept() {
        let request = get("/?foo=bar&moo=23&moo=44&e&x=%26+%3D", "");
        assert_eq!(request.query(), Some("foo=bar&moo=23&moo=44&e&x=%26+%3D"));
        let moo: Vec<_> = request.query_pairs().filter(|(name, _)| name == "moo").map(|(_, value)| value).collect();
        assert_eq!(moo, ["23", "44"]);
        assert_eq!(request.query_value("x").as_deref(), Some("& ="));
        assert_eq!(request.query_value("e").as_deref(), Some(""));
        assert_eq!(request.query_value("y"), None);
        assert_eq!(get("/", "").query(), None);
    }

    #[test]
    fn cookies_are_found_over_all_lines() {
        let request = get("/", "Cookie: a=1; b = \"2\" ;c\r\nCookie: d=x=y; a=3\r\n");
        assert_eq!(request.cookie("a"), Some("1"));
        assert_eq!(request.cookie("b"), Some("\"2\""));
        assert_eq!(request.cookie("c"), None);
        assert_eq!(request.cookie("d"), Some("x=y"));
    }

    #[test]
    fn only_addresses_set_by_trusted_proxies_are_believed() {
        // T20, P269
        let request = get("/", "X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n");
        let address = |hops| request.forwarded_for(hops).map(|ip| ip.to_string());
        assert_eq!(address(0), None);
        assert_eq!(address(1).as_deref(), Some("2.2.2.2"));
        assert_eq!(address(2).as_deref(), Some("1.1.1.1"));
        assert_eq!(address(9).as_deref(), Some("6.6.6.6"));
        assert_eq!(get("/", "").forwarded_for(1), None);
        for (text, ip) in [
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("1.2.3.4:5", Some("1.2.3.4")),
            ("unknown", None),
            ("", None),
        ] {
            let request = get("/", &format!("X-Forwarded-For: 9.9.9.9, {text}\r\n"));
            assert_eq!(request.forwarded_for(1).map(|ip| ip.to_string()).as_deref(), ip, "{text}");
        }
    }

    #[test]
    fn connections_are_kept_by_version_and_option() {
        for (version, fields, kept) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: foo,\tCLOSE\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let request = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(Request::parse(request.as_bytes()).unwrap().keep_alive(), kept, "{request}");
        }
    }
}
