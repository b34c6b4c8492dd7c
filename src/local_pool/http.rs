//! The wire: requests in, answers out, faults in between. What is answered is decided elsewhere.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Body, Frame, SizeHint},
    header,
};
use kernels::Announcement;
use tokio::time::Sleep;

use super::{
    StartError,
    control::{self, Action, Command},
    faults::{Endpoint, FaultKind},
    listen::{self, Addresses},
    pool::{Held, MasterView, Pool, Posted},
};
use crate::{
    http_server::{BodyError, Reply, RequestBody, origin},
    plain::plain,
    protocol::{Answer, BATCH, BlockHash, Config, headers},
};

/// The largest body that is read: a full batch, and something to spare for miners that send a little more.
const LARGEST_BODY: usize = BATCH * 1024 + 64 * 1024;

/// A body larger than is taken is still read up to here, so that the miner gets to read the answer.
const LARGEST_DISCARDED: usize = 8 * LARGEST_BODY;

/// The least memory that a body gets, so that it does not grow byte by byte.
const SMALLEST_KEPT: usize = 1024;

/// The largest body of `POST /control`.
const LARGEST_COMMAND: usize = 64 * 1024;

/// For how long the master can be asked to be down: nobody can take that back meanwhile.
const LONGEST_DOWN: Duration = Duration::from_secs(3600);

/// A redirected request comes back under this.
const REDIRECTED: &str = "/redirected";

/// Which server a connection came to.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    Master,
    /// The handler with that number.
    Handler(u64),
}

/// Answers a request. An error closes the connection without an answer.
pub async fn answer(
    pool: Arc<Pool>,
    server: Server,
    request: Request<RequestBody>,
) -> io::Result<Response<ReplyBody>> {
    let full_path = request.uri().path().to_owned();
    let (path, redirected) = match full_path.strip_prefix(REDIRECTED) {
        Some(rest) if rest.starts_with('/') => (rest, true),
        _ => (full_path.as_str(), false),
    };
    let endpoint = match server {
        Server::Master if path == "/config.json" => Some(Endpoint::Config),
        Server::Master if block_hash(path).is_some() => Some(Endpoint::BlockInfo),
        Server::Handler(id) if path == "/submit" => pool.handler_index(id).map(Endpoint::Handler),
        _ => None,
    };
    let met = endpoint.filter(|_| !redirected).map(|endpoint| pool.meet(endpoint)).unwrap_or_default();
    if !met.delay.is_zero() {
        tokio::time::sleep(met.delay).await;
    }
    match met.fault {
        None => Ok(work(&pool, server, path, request).await?.into_response(ReplyBody::whole)),
        Some((FaultKind::CloseInRequest, _)) => {
            // With its first piece read and the rest not, the miner sees a reset in the middle of its request.
            let mut body = request.into_body();
            let _ = tokio::time::timeout(Duration::from_secs(1), body.next()).await;
            Err(io::Error::from(io::ErrorKind::ConnectionAborted))
        }
        Some((kind, after_work)) => {
            // A master's answer costs nothing: it is made for what there is to spoil.
            let reply = if after_work || matches!(server, Server::Master) {
                work(&pool, server, path, request).await?
            } else {
                drop(read_body(&pool, request.into_body(), true).await);
                Reply::json(200, &Answer::default())
            };
            spoil(&kind, reply, &full_path).await
        }
    }
}

/// What a fault makes of an answer.
async fn spoil(kind: &FaultKind, reply: Reply, path: &str) -> io::Result<Response<ReplyBody>> {
    Ok(match kind {
        FaultKind::Delay(_) | FaultKind::Reorganise { .. } => reply.into_response(ReplyBody::whole),
        FaultKind::CloseInRequest => return Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
        FaultKind::Overloaded => overloaded().into_response(ReplyBody::whole),
        FaultKind::Error500 => {
            Reply::text(500, "Internal Server Error (on request)").into_response(ReplyBody::whole)
        }
        FaultKind::CloseInReply => {
            let half = reply.body.slice(..reply.body.len() / 2);
            let body = ReplyBody::broken_off(half, reply.body.len());
            reply.into_response(ReplyBody::whole).map(|_| body)
        }
        FaultKind::Truncated => {
            let body = reply.body.slice(..reply.body.len() / 2);
            Reply { status: 200, body, ..reply }.into_response(ReplyBody::whole)
        }
        FaultKind::Garbage => {
            let page = "<!DOCTYPE html><html><body><h1>It works!</h1></body></html>\n";
            Reply { content_type: "text/html", ..Reply::text(200, page) }.into_response(ReplyBody::whole)
        }
        FaultKind::Huge => {
            Reply::json(200, &()).into_response(ReplyBody::whole).map(|_| ReplyBody::huge(64 * 1024 * 1024))
        }
        FaultKind::Hang(duration) => {
            tokio::time::sleep(*duration).await;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        FaultKind::Redirect => Reply::text(307, "")
            .with(header::LOCATION, &format!("{REDIRECTED}{}", path.trim_start_matches(REDIRECTED)))
            .into_response(ReplyBody::whole),
        FaultKind::RedirectLoop => {
            Reply::text(307, "").with(header::LOCATION, path).into_response(ReplyBody::whole)
        }
    })
}

/// Does what the request asks for.
async fn work(
    pool: &Arc<Pool>,
    server: Server,
    path: &str,
    request: Request<RequestBody>,
) -> io::Result<Reply> {
    // Whoever has an answer to GET has one to HEAD: hyper leaves its body out.
    let get = &[Method::GET, Method::HEAD][..];
    let allowed = match (server, path) {
        (Server::Handler(_), "/submit") => &[Method::POST],
        (Server::Handler(_), _) => return turn_away(pool, request, Reply::text(404, "Not Found")).await,
        (Server::Master, "/config.json" | "/stats") => get,
        (Server::Master, "/control") if pool.settings.control => &[Method::POST],
        (Server::Master, "/control") => {
            let reply = Reply::text(404, "The control endpoint is off; it is turned on with --control");
            return turn_away(pool, request, reply).await;
        }
        (Server::Master, path) if block_hash(path).is_some() => get,
        (Server::Master, _) => {
            let reply =
                Reply::text(404, "Not Found: a master has /config.json, /blkinfo_HASH.json and /stats");
            return turn_away(pool, request, reply).await;
        }
    };
    if !allowed.contains(request.method()) {
        let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let reply = Reply::text(405, "Method Not Allowed").with(header::ALLOW, &allowed.join(", "));
        return turn_away(pool, request, reply).await;
    }
    let addresses = listen::addresses(pool, request.headers().get(header::HOST));
    match (server, path) {
        (Server::Handler(id), _) => submit(pool, id, request).await,
        (Server::Master, "/config.json") => Ok(Reply::json(200, &config(pool, &addresses))
            .with(header::CACHE_CONTROL, "max-age=8, stale-while-revalidate=2")),
        (Server::Master, "/stats") => {
            // Long where many are paid, and made while handlers wait.
            let make = || Reply::json(200, &pool.stats(|slot| addresses.handler(slot)));
            let reply = pool.stats_answers.get(&addresses.master, Instant::now(), make);
            Ok(reply.unwrap_or_else(overloaded).with(header::CACHE_CONTROL, "no-store"))
        }
        (Server::Master, "/control") => control(pool, request).await,
        (Server::Master, path) => {
            Ok(match block_hash(path).flatten().and_then(|hash| pool.block_info(&hash)) {
                Some(info) => {
                    Reply::json(200, &info).with(header::CACHE_CONTROL, "public, max-age=31536000, immutable")
                }
                None => Reply::text(404, "Not Found: no such block is remembered"),
            })
        }
    }
}

/// Answers a request that nothing comes of, once its body has been read: who is still sending does not see an answer.
async fn turn_away(pool: &Pool, request: Request<RequestBody>, reply: Reply) -> io::Result<Reply> {
    match read_body(pool, request.into_body(), true).await {
        Read::Whole(..) => Ok(reply),
        Read::Broken(error) => Err(error),
        Read::TooLarge { .. } | Read::TooSlow | Read::NoRoom { .. } => Ok(reply.closing()),
    }
}

/// The hash in `/blkinfo_{hash}.json`; `None`: the path is another one; `Some(None)`: that is no hash.
fn block_hash(path: &str) -> Option<Option<BlockHash>> {
    let path = path.strip_prefix(listen::BLOCKS).unwrap_or(path);
    Some(path.strip_prefix("/blkinfo_")?.strip_suffix(".json")?.parse().ok())
}

fn config(pool: &Pool, addresses: &Addresses) -> Config {
    let MasterView { tip_hash, tip_height, work_bits, mine_old, handlers } = pool.master_view();
    Config {
        tip_hash,
        current_height: i32::try_from(tip_height.saturating_add(1)).unwrap_or(i32::MAX),
        master_url: addresses.master.clone(),
        paymaker_url: addresses.master.clone(),
        submit_ann_urls: handlers.iter().map(|slot| addresses.handler(slot)).collect(),
        download_ann_urls: Vec::new(),
        submit_block_urls: Vec::new(),
        version: 1,
        soft_version: 1,
        ann_versions: pool.settings.ann_versions.clone(),
        mine_old_anns: mine_old,
        ann_target: work_bits,
        blkinfo_url: pool.settings.blkinfo_url.then(|| addresses.blocks()),
    }
}

async fn submit(pool: &Arc<Pool>, handler: u64, request: Request<RequestBody>) -> io::Result<Reply> {
    let (parts, body) = request.into_parts();
    let refuse = |bytes: usize, reason, answer| {
        pool.count_refused(handler, None, reason, bytes / Announcement::LEN);
        answer
    };
    let (body, held) = match read_body(pool, body, false).await {
        Read::Whole(body, held) => (body, held),
        Read::TooLarge { bytes } => return refuse(bytes, "body too large", Ok(too_large())),
        Read::TooSlow => {
            return refuse(0, "body too slow", Ok(Reply::text(408, "Request Timeout").closing()));
        }
        Read::NoRoom { bytes } => return refuse(bytes, "overloaded", Ok(overloaded())),
        Read::Broken(error) => return refuse(0, "body broken off", Err(error)),
    };
    let posted = match read_headers(&parts.headers) {
        Ok((work_number, pay_to)) => Posted { work_number, pay_to, body },
        Err(text) => return refuse(body.len(), "malformed request", Ok(Reply::text(400, &text))),
    };
    // A task of its own: a batch that was read is dealt with, also if the miner does not wait for the answer.
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let answer = pool.submit(handler, posted).await;
            drop(held);
            answer
        }
    });
    Ok(match task.await {
        Ok((status, answer)) => Reply::json(status, &answer),
        Err(_) => Reply::text(500, "Internal Server Error"),
    })
}

/// Work number and payment address, or what is wrong with the headers.
fn read_headers(map: &HeaderMap) -> Result<(i32, String), String> {
    read_header::<u32>(map, headers::SOFT_VERSION)?;
    let work_number = read_header(map, headers::WORK_NUMBER)?;
    let pay_to = read_header(map, headers::PAY_TO)?;
    read_header::<u8>(map, headers::ANN_VERSION)?;
    Ok((work_number, pay_to))
}

fn read_header<T: FromStr>(map: &HeaderMap, name: &str) -> Result<T, String> {
    let value = map.get(name).ok_or_else(|| format!("Missing request header \"{name}\""))?;
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("Invalid request header \"{name}\""))
}

async fn control(pool: &Arc<Pool>, request: Request<RequestBody>) -> io::Result<Reply> {
    if origin::is_foreign(request.headers()) {
        let reply = Reply::text(403, "Forbidden: pages of other sites may not control the pool");
        return turn_away(pool, request, reply).await;
    }
    // Not bounded with the batches: whoever looks into an overloaded pool must get through.
    let Ok(body) = request.into_body().read_small(LARGEST_COMMAND).await else {
        return Ok(Reply::text(400, "Bad Request: too large, too slow or broken off").closing());
    };
    let outcome = match control::parse(&body) {
        Err(error) => Err(plain(&error.to_string())),
        Ok(Command::Fault(fault)) => {
            let count = pool.handlers().len();
            if fault.on.is_nobody(count) {
                Err(StartError::FaultOnNobody { fault, count }.to_string())
            } else {
                pool.inject(fault);
                Ok(())
            }
        }
        Ok(Command::Action(action)) => act(pool, action).await,
    };
    Ok(match outcome {
        Ok(()) => Reply::json(200, &serde_json::json!({ "ok": true })),
        Err(error) => Reply::json(400, &serde_json::json!({ "ok": false, "error": error })),
    })
}

async fn act(pool: &Arc<Pool>, action: Action) -> Result<(), String> {
    tracing::info!("local pool: asked for {}", serde_json::to_string(&action).unwrap_or_default());
    match action {
        Action::NewBlock {} => pool.new_block(),
        Action::Reorganise { depth, lower } => {
            pool.reorganise(depth, lower).map_err(|error| error.to_string())?;
        }
        Action::Handlers { count } => {
            listen::set_handlers(pool, count).await.map_err(|error| error.to_string())?;
        }
        Action::Handler { index, state } => {
            listen::set_handler(pool, index, state).await.map_err(|error| error.to_string())?;
        }
        Action::HandlerOrder { order } => {
            listen::order_handlers(pool, &order).await.map_err(|error| error.to_string())?;
        }
        Action::ListHandler { index, url } => {
            let url = url.map(|url| url.parse()).transpose();
            let url = url.map_err(|error| format!("the handler's url is no address: {error}"))?;
            listen::list_handler(pool, index, url).await.map_err(|error| error.to_string())?;
        }
        Action::MasterDown { seconds } => {
            let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= LONGEST_DOWN);
            let time = time.ok_or_else(|| {
                format!("the master can be down for 0 to {} seconds", LONGEST_DOWN.as_secs())
            })?;
            listen::take_master_down(pool.clone(), time);
        }
        Action::WorkBits { value } => {
            pool.set_work_bits(kernels::WorkBits::new(value).map_err(|error| error.to_string())?);
        }
        Action::AnnounceWorkBits { value } => pool.announce_work_bits(value),
        Action::MineOld { value } => pool.set_mine_old(value),
        Action::Ready { value } => pool.set_ready(value),
        Action::Clear {} => pool.clear_faults(),
    }
    Ok(())
}

/// How reading a body ended.
enum Read {
    Whole(Bytes, Held),
    TooLarge { bytes: usize },
    TooSlow,
    NoRoom { bytes: usize },
    Broken(io::Error),
}

/// Reads a body to its end, within bounds of size, memory and time. What is not kept is read nevertheless, as far as
/// that is bearable: a miner that is still sending would not see the answer.
async fn read_body(pool: &Pool, mut body: RequestBody, discard: bool) -> Read {
    let announced = body.announced();
    if announced > LARGEST_DISCARDED as u64 {
        return Read::TooLarge { bytes: 0 };
    }
    let mut kept = Kept { bytes: Vec::new(), held: pool.room.hold(), announced: announced as usize };
    let mut total = 0;
    let mut no_room = false;
    while let Some(data) = body.next().await {
        let data = match data {
            Ok(data) => data,
            Err(BodyError::TooLarge) => return Read::TooLarge { bytes: total },
            Err(BodyError::TooSlow) => return Read::TooSlow,
            Err(BodyError::Broken(error)) => return Read::Broken(io::Error::other(error)),
        };
        total += data.len();
        if total > LARGEST_DISCARDED {
            return Read::TooLarge { bytes: total };
        }
        if discard || no_room || total > LARGEST_BODY || !kept.push(&data) {
            no_room = no_room || (!discard && total <= LARGEST_BODY);
            kept.clear();
        }
    }
    match total {
        _ if total > LARGEST_BODY => Read::TooLarge { bytes: total },
        _ if no_room => Read::NoRoom { bytes: total },
        _ => Read::Whole(kept.bytes.into(), kept.held),
    }
}

/// What was read of a body. Its memory is held before there is any: single bytes must not cost more than they are.
struct Kept {
    bytes: Vec<u8>,
    held: Held,
    announced: usize,
}

impl Kept {
    /// Adds bytes; `false`: there is no room.
    fn push(&mut self, data: &[u8]) -> bool {
        let (needed, capacity) = (self.bytes.len() + data.len(), self.bytes.capacity());
        if needed > capacity {
            // A length that was only announced gets no more than twice what has come.
            let limit = if self.announced > 0 { self.announced.min(LARGEST_BODY) } else { LARGEST_BODY };
            let wanted = (2 * needed).max(SMALLEST_KEPT).min(limit).max(needed);
            if !self.held.grow(wanted - self.held.bytes()) {
                return false;
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        true
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        self.held.release();
    }
}

/// What is said where there is no room.
pub fn overloaded() -> Reply {
    Reply::json(503, &Answer { error: vec!["overloaded".into()], ..Answer::default() })
}

fn too_large() -> Reply {
    Reply::text(413, &format!("Payload Too Large: at most {LARGEST_BODY} bytes are taken")).closing()
}

/// The body of an answer, which may break off or be very long.
pub struct ReplyBody {
    pieces: VecDeque<Piece>,
    announced: u64,
}

enum Piece {
    Data(Bytes),
    /// Breaks the connection off after a moment in which what came before is sent.
    Break(Pin<Box<Sleep>>),
}

impl ReplyBody {
    fn whole(data: Bytes) -> Self {
        let announced = data.len() as u64;
        let pieces = (!data.is_empty()).then_some(Piece::Data(data)).into_iter().collect();
        Self { pieces, announced }
    }

    fn broken_off(data: Bytes, announced: usize) -> Self {
        let moment = Box::pin(tokio::time::sleep(Duration::from_millis(20)));
        Self { pieces: [Piece::Data(data), Piece::Break(moment)].into(), announced: announced as u64 }
    }

    /// JSON with one very long string; its pieces share their memory.
    fn huge(len: usize) -> Self {
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let mut pieces = VecDeque::from([Piece::Data(Bytes::from_static(b"{\"warn\":[\""))]);
        pieces.extend((0..len / piece.len()).map(|_| Piece::Data(piece.clone())));
        pieces.push_back(Piece::Data(Bytes::from_static(b"\"],\"error\":[],\"result\":null}")));
        let announced = pieces.iter().map(|piece| if let Piece::Data(data) = piece { data.len() } else { 0 });
        Self { announced: announced.sum::<usize>() as u64, pieces }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(Piece::Break(moment)) = self.pieces.front_mut() {
            ready!(moment.as_mut().poll(context));
        }
        Poll::Ready(match self.pieces.pop_front() {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::Break(_)) => Some(Err(io::ErrorKind::ConnectionAborted.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
