//! `Resource`: a tree of things that answer requests.

use std::collections::HashMap;
use std::fmt;

use ::http::{HeaderValue, Method, StatusCode, header};
use bytes::Bytes;

use crate::handshake::not_an_upgrade;
use crate::http::{InvalidHeader, Request, Response};
use crate::server::WebSocketResource;

type Render = Box<dyn FnMut(&Request) -> Response>;

/// A node of a [`Site`](crate::Site)'s tree: `twisted.web.resource.Resource`. What it renders is given by closures, one
/// a method; a WebSocket may be mounted on any node, the root included, beside a page or alone.
///
/// ```
/// use twistor_websocket::{Frame, Resource, WebSocket, WebSocketProtocol, http::Response};
/// # struct Echo;
/// # impl WebSocketProtocol for Echo {
/// #     fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) { socket.send_message(frame); }
/// # }
/// # use twistor_reactor::Address;
/// let mut root = Resource::new().render_get(|_| Response::html("<h1>Hello</h1>"));
/// root.put_child("ws", Resource::new().websocket(|_: &Address| Some(Echo)));
/// ```
#[derive(Default)]
pub struct Resource {
    children: HashMap<String, Self>,
    renders: Vec<(Method, Render)>,
    websocket: Option<WebSocketResource>,
    is_leaf: bool,
}

impl Resource {
    /// An empty one: it answers 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a resource below this one, under one (decoded) segment of the path, in place of one with this name.
    pub fn put_child(&mut self, name: impl Into<String>, child: Self) -> &mut Self {
        self.children.insert(name.into(), child);
        self
    }

    /// Answers GET, and HEAD with the same head: `render_GET`.
    #[must_use]
    pub fn render_get(self, render: impl FnMut(&Request) -> Response + 'static) -> Self {
        self.render(Method::GET, render)
    }

    /// Answers POST: `render_POST`. The body is whole.
    #[must_use]
    pub fn render_post(self, render: impl FnMut(&Request) -> Response + 'static) -> Self {
        self.render(Method::POST, render)
    }

    /// Answers another method.
    #[must_use]
    pub fn render(mut self, method: Method, render: impl FnMut(&Request) -> Response + 'static) -> Self {
        self.renders.retain(|(other, _)| *other != method);
        self.renders.push((method, Box::new(render)));
        self
    }

    /// Answers GET with these bytes: `twisted.web.static.Data`.
    ///
    /// # Errors
    /// When the content type is no header value.
    pub fn data(self, content_type: &str, body: impl Into<Bytes>) -> Result<Self, InvalidHeader> {
        let response = Response::bytes(content_type, body)?;
        Ok(self.render_get(move |_| response.clone()))
    }

    /// Mounts a WebSocket here: a factory of [`WebSocketProtocol`](crate::WebSocketProtocol)s, or a
    /// [`WebSocketResource`] with options. Requests without `Upgrade: websocket` still get the page, or 426.
    #[must_use]
    pub fn websocket(mut self, websocket: impl Into<WebSocketResource>) -> Self {
        self.websocket = Some(websocket.into());
        self
    }

    /// Answers for every path below this one, too: `isLeaf`.
    #[must_use]
    pub fn leaf(mut self) -> Self {
        self.is_leaf = true;
        self
    }

    /// The resource for a path.
    pub(crate) fn find<'a>(
        &mut self,
        mut segments: impl Iterator<Item = std::borrow::Cow<'a, str>>,
    ) -> Option<&mut Self> {
        if self.is_leaf {
            return Some(self);
        }
        match segments.next() {
            None => Some(self),
            Some(segment) => {
                if segment.is_empty() && !self.children.contains_key("") {
                    // a trailing slash
                    return segments.next().is_none().then_some(self);
                }
                self.children.get_mut(&*segment)?.find(segments)
            }
        }
    }

    pub(crate) fn websocket_mut(&mut self) -> Option<&mut WebSocketResource> {
        self.websocket.as_mut()
    }

    pub(crate) fn respond(&mut self, request: &Request) -> Response {
        let at = |wanted: &Method| self.renders.iter().position(|(method, _)| method == wanted);
        let get = || at(&Method::GET).filter(|_| request.method() == Method::HEAD);
        if let Some((_, render)) = at(request.method()).or_else(get).and_then(|at| self.renders.get_mut(at)) {
            return render(request);
        }
        if self.renders.is_empty() {
            return if self.websocket.is_some() { not_an_upgrade() } else { Response::not_found() };
        }
        let mut allowed: Vec<&str> = self.renders.iter().map(|(method, _)| method.as_str()).collect();
        if allowed.contains(&"GET") && !allowed.contains(&"HEAD") {
            allowed.push("HEAD");
        }
        let text = format!("expected {} here, but another method came\n", allowed.join(" or "));
        let answer = Response::text(text).status(StatusCode::METHOD_NOT_ALLOWED);
        match HeaderValue::from_str(&allowed.join(", ")) {
            Ok(allow) => answer.with_header((header::ALLOW, allow)),
            Err(_) => answer,
        }
    }

    /// Calls `f` for each WebSocket of the tree.
    pub(crate) fn each_websocket(&mut self, f: &mut dyn FnMut(&mut WebSocketResource)) {
        if let Some(websocket) = &mut self.websocket {
            f(websocket);
        }
        for child in self.children.values_mut() {
            child.each_websocket(f);
        }
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.renders.iter().map(|(method, _)| method.as_str()).collect();
        let mut debug = f.debug_struct("Resource");
        debug.field("renders", &methods).field("websocket", &self.websocket.is_some());
        debug.field("children", &self.children).finish()
    }
}
