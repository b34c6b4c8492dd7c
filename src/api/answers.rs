//! Which request gets which answer.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::MapErr};
use hyper::{Method, Request, Response, header};
use serde_json::json;

use super::{
    Settings,
    access::{self, Denied},
    health::Health,
    machine::{Machine, Usage},
    metrics,
    rpc::{self, Rpc},
    summary,
};
use crate::{
    http_server::{BodyError, Reply, RequestBody},
    miner::Control,
    report::{self, Snapshot, Watch},
};

/// The largest body that is read.
const LARGEST_BODY: usize = 16 * 1024;

const PAGE: &str = include_str!("page.html");

/// The page asks this server alone, and is in nobody's frame: a click on it is meant for it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                           connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

/// What all connections share.
pub struct Shared {
    settings: Settings,
    watch: Watch,
    rpc: Rpc,
    machine: Machine,
    health: Health,
    /// The newest answers, so that many requests cost one rendering a snapshot.
    rendered: Mutex<BTreeMap<Endpoint, (Arc<Snapshot>, Reply)>>,
}

impl Shared {
    pub fn new(settings: Settings, watch: Watch, control: Control) -> Self {
        let health = Health::new(settings.cards.clone());
        let rpc = Rpc::new(control);
        Self { settings, watch, rpc, machine: Machine::read(), health, rendered: Mutex::default() }
    }
}

impl Shared {
    /// The answer from a snapshot.
    fn rendered(&self, endpoint: Endpoint, snapshot: Arc<Snapshot>) -> Reply {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, reply)) = rendered.get(&endpoint)
            && Arc::ptr_eq(of, &snapshot)
        {
            return reply.clone();
        }
        let reply = self.render(endpoint, &snapshot);
        rendered.insert(endpoint, (snapshot, reply.clone()));
        reply
    }

    fn render(&self, endpoint: Endpoint, snapshot: &Snapshot) -> Reply {
        let (usage, restricted) = (Usage::read(), !self.settings.control);
        match endpoint {
            Endpoint::Metrics => {
                Reply::new(200, metrics::CONTENT_TYPE, metrics::render(snapshot, &usage).into())
            }
            Endpoint::Summary => {
                Reply::json(200, &summary::summary(snapshot, &self.machine, &usage, restricted))
            }
            Endpoint::Backends => Reply::json(200, &summary::backends(snapshot, &self.machine, &self.health)),
            Endpoint::Config => Reply::json(200, &summary::config(snapshot, &self.settings)),
            _ => Reply::json(200, &status(snapshot, restricted)),
        }
    }
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Endpoint {
    Page,
    Status,
    Metrics,
    Summary,
    Backends,
    Config,
    Rpc,
}

impl Endpoint {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" | "/index.html" => Self::Page,
            "/status.json" => Self::Status,
            "/metrics" => Self::Metrics,
            "/2/summary" | "/1/summary" | "/api.json" => Self::Summary,
            "/2/backends" => Self::Backends,
            "/1/config" | "/2/config" => Self::Config,
            "/json_rpc" => Self::Rpc,
            _ => return None,
        })
    }

    /// Whoever has an answer to GET has one to HEAD: hyper leaves its body out.
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Page | Self::Metrics => &[Method::GET, Method::HEAD],
            Self::Rpc => &[Method::POST, Method::OPTIONS],
            _ => &[Method::GET, Method::HEAD, Method::OPTIONS],
        }
    }

    /// Whether dashboards on other sites may read it.
    fn is_shared(self) -> bool {
        self.methods().contains(&Method::OPTIONS)
    }
}

/// The body of an answer.
type ReplyBody = MapErr<Full<Bytes>, fn(Infallible) -> io::Error>;

/// Answers a request.
pub async fn answer(shared: Arc<Shared>, request: Request<RequestBody>) -> io::Result<Response<ReplyBody>> {
    let endpoint = Endpoint::at(request.uri().path());
    let mut reply = match endpoint {
        Some(endpoint) => work(&shared, endpoint, request).await,
        None => Reply::text(
            404,
            "Not Found: there are /, /status.json, /metrics, /2/summary, /2/backends, /1/config",
        ),
    };
    if endpoint.is_some_and(Endpoint::is_shared) {
        // As dashboards know them.
        reply = reply
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            .with(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, POST, DELETE")
            .with(header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type");
    }
    reply = reply.with(header::CACHE_CONTROL, "no-store").with(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    Ok(reply.into_response(|body| {
        Full::new(body).map_err((|never| match never {}) as fn(Infallible) -> io::Error)
    }))
}

async fn work(shared: &Shared, endpoint: Endpoint, request: Request<RequestBody>) -> Reply {
    let methods = endpoint.methods();
    if !methods.contains(request.method()) {
        let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
        return Reply::text(405, "Method Not Allowed").with(header::ALLOW, &allowed.join(", ")).closing();
    }
    // A browser asks that before it shows a token.
    if request.method() == Method::OPTIONS {
        return Reply::new(200, "application/json", Bytes::new());
    }
    if endpoint == Endpoint::Rpc {
        return control(shared, request).await;
    }
    // The page holds nothing to hide: it asks for the token itself.
    if endpoint == Endpoint::Page {
        return Reply::new(200, "text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()))
            .with(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)
            .with(header::REFERRER_POLICY, "no-referrer");
    }
    if let Err(denied) = access::may_read(&shared.settings, request.headers()) {
        return refuse(denied);
    }
    let Some(snapshot) = shared.watch.latest() else {
        return Reply::text(503, "Service Unavailable: the miner is starting").with(header::RETRY_AFTER, "1");
    };
    shared.rendered(endpoint, snapshot)
}

/// What the page shows: a status line's object, and what is not repeated in each line.
fn status(snapshot: &Snapshot, restricted: bool) -> serde_json::Value {
    let mut status = report::status_object(snapshot);
    status.as_object_mut().map(|object| object.remove("event"));
    let complaints = snapshot.complaints.iter().map(|complaint| {
        json!({ "at": report::seconds(complaint.at), "is_error": complaint.is_error, "text": complaint.text })
    });
    status["complaints"] = complaints.collect();
    status["version"] = snapshot.version.into();
    status["restricted"] = restricted.into();
    for (object, backend) in status["backends"].as_array_mut().into_iter().flatten().zip(&snapshot.backends) {
        object["description"] = backend.description.as_str().into();
    }
    status
}

async fn control(shared: &Shared, request: Request<RequestBody>) -> Reply {
    if let Err(denied) = access::may_control(&shared.settings, request.headers()) {
        return Reply { status: denied.status(), ..rpc::error(denied.reason()) }.closing();
    }
    match request.into_body().read_small(LARGEST_BODY).await {
        Ok(body) => shared.rpc.call(&body),
        Err(BodyError::TooLarge) => {
            Reply::text(413, &format!("Payload Too Large: at most {LARGEST_BODY} bytes are taken")).closing()
        }
        Err(BodyError::TooSlow) => Reply::text(408, "Request Timeout").closing(),
        Err(BodyError::Broken(_)) => Reply::text(400, "Bad Request: the body broke off").closing(),
    }
}

/// What is said to one for whose connection there is no room.
pub fn no_room() -> Reply {
    Reply::text(503, "Service Unavailable: too many connections").with(header::RETRY_AFTER, "1")
}

fn refuse(denied: Denied) -> Reply {
    let reply = Reply::text(denied.status(), denied.reason());
    if denied == Denied::Token { reply.with(header::WWW_AUTHENTICATE, "Bearer") } else { reply }
}
