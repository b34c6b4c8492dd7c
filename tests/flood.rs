//! The local pool and the API under attack, each as a process of its own: whoever attacks is refused in time, memory
//! stays bounded, and a miner that posts meanwhile is not disturbed.
//!
//! What is asserted of time is what the settings say and a few seconds more, for machines on which other things run.
//! Sizes are those for every day; `PKTMINE_FLOOD=full` makes them ten thousand connections and more
//! (`PKTMINE_FLOOD=full cargo test --release --test flood -- --test-threads 1`, some minutes).

#![cfg(target_os = "linux")]

mod child;

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use child::{PATIENCE, Parent, Pool, connect, exchange, mine, read_answer, submit, submit_head};
use kernels::Announcement;

/// Where the miner comes from.
const MINER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Where attackers come from.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Deadlines that a test can wait for.
const TIMES: [&str; 8] = [
    "--idle-timeout",
    "3s",
    "--header-timeout",
    "1500ms",
    "--body-timeout",
    "4s",
    "--stall-timeout",
    "1500ms",
];

/// What other work on the machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(4);

/// Whoever asks more often sees old answers: the pool makes its statistics anew once in 50 ms.
const BETWEEN_STATS: Duration = Duration::from_millis(60);

fn is_full() -> bool {
    std::env::var("PKTMINE_FLOOD").is_ok_and(|value| value == "full")
}

/// A number for every day, and one in full.
fn scaled(daily: usize, full: usize) -> usize {
    if is_full() { full } else { daily }
}

fn start(flags: &[&str]) -> Pool {
    let times = TIMES.as_chunks::<2>().0.iter().filter(|[flag, _]| !flags.contains(flag));
    Pool::start(&[&times.flatten().copied().collect::<Vec<_>>()[..], &["--validators", "1"], flags].concat())
}

/// Announcements, mined once for all tests: the chain of each pool is the same.
fn stock(pool: &Pool) -> (Parent, &'static [Announcement]) {
    static STOCK: OnceLock<(Parent, Vec<Announcement>)> = OnceLock::new();
    let (parent, announcements) = STOCK.get_or_init(|| {
        let parent = pool.parent();
        (parent, mine(parent, 0..12, 2).concat())
    });
    (*parent, announcements)
}

/// What a miner saw.
#[derive(Debug, Default)]
struct Log {
    latencies: Vec<Duration>,
    reconnects: usize,
    overloaded: usize,
}

/// Has a miner post all the time, over one connection that it keeps, while something happens.
fn mining_meanwhile(pool: &Pool, attack: impl FnOnce()) -> Log {
    let (parent, announcements) = stock(pool);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let miner = scope.spawn(|| {
            let mut log = Log::default();
            let mut stream = connect(MINER, pool.handler).expect("the pool listens");
            for batch in announcements.chunks(4).cycle() {
                if over.load(Ordering::Relaxed) && !log.latencies.is_empty() {
                    break;
                }
                let request = submit(parent.height, batch);
                let begun = Instant::now();
                loop {
                    match exchange(&mut stream, &request) {
                        Ok((200, _)) => break,
                        Ok((503, _)) => log.overloaded += 1,
                        Ok((status, text)) => panic!("a good batch is answered with {status}: {text}"),
                        Err(error) => {
                            log.reconnects += 1;
                            assert!(begun.elapsed() < PATIENCE, "a miner gets nothing through: {error}");
                            stream = connect(MINER, pool.handler).expect("the pool listens");
                        }
                    }
                }
                log.latencies.push(begun.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            log
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        over.store(true, Ordering::Relaxed);
        let log = miner.join().expect("the miner goes on");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        log
    })
}

/// The miner has hardly seen anything of it.
fn assert_undisturbed(mut log: Log) {
    log.latencies.sort_unstable();
    let (median, worst) = (log.latencies[log.latencies.len() / 2], log.latencies[log.latencies.len() - 1]);
    assert!(median < Duration::from_millis(500), "the miner waits {median:?}");
    assert!(worst < SLACK, "the miner waited {worst:?}");
    assert_eq!((log.reconnects, log.overloaded), (0, 0), "a connection that is used is kept");
}

fn assert_memory(pool: &Pool, before: u64, most: u64) {
    let peak = pool.peak();
    assert!(peak < before + most, "it took {} MiB, and may take {most}", peak - before);
}

/// Reads until the server closes, which it must do before the deadline: when it did, and what it said.
fn wait_for_end(stream: &mut TcpStream, deadline: Instant) -> (Instant, String) {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).expect("a time limit");
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("it is not closed in time, after {:?}", String::from_utf8_lossy(&all));
            }
            Err(_) => break,
        }
    }
    (Instant::now(), String::from_utf8_lossy(&all).into_owned())
}

/// Sends bytes as they are, and waits for the end: the status of the first answer, if there is one, and all of it.
fn raw(to: SocketAddrV4, bytes: &[u8]) -> (Option<u16>, String) {
    let mut stream = connect(ATTACKER, to).expect("it listens");
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let (_, text) = wait_for_end(&mut stream, Instant::now() + PATIENCE);
    (status_of(&text), text)
}

fn status_of(text: &str) -> Option<u16> {
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A slow client: what it sends at first, what it then sends piece by piece, and what it is told in the end.
struct Slow {
    name: &'static str,
    to: SocketAddrV4,
    first: Vec<u8>,
    drip: &'static [u8],
    /// The deadline that it misses.
    within: Duration,
    told: &'static [u16],
}

#[test]
fn slow_clients_are_cut_off_in_time_and_disturb_nobody() {
    let pool = start(&[]);
    stock(&pool);
    let before = pool.forget_peak();
    let head = submit_head(999_997).into_bytes();
    let with = |rest: &str| [&head, rest.as_bytes()].concat();
    let (stall, whole) = (Duration::from_millis(1500), Duration::from_secs(4));
    let kinds = [
        Slow {
            name: "silence",
            to: pool.handler,
            first: vec![],
            drip: b"",
            within: Duration::from_secs(3),
            told: &[],
        },
        Slow {
            name: "half a head",
            to: pool.handler,
            first: head.clone(),
            drip: b"",
            within: stall,
            told: &[408],
        },
        Slow {
            name: "a head byte by byte",
            to: pool.master,
            first: vec![],
            drip: b"G",
            within: stall,
            told: &[408, 400],
        },
        Slow {
            name: "headers without end",
            to: pool.handler,
            first: head.clone(),
            drip: b"x: y\r\n",
            within: stall,
            told: &[408, 431],
        },
        Slow {
            name: "empty lines",
            to: pool.handler,
            first: vec![],
            drip: b"\r\n",
            within: stall,
            told: &[408, 400],
        },
        Slow {
            name: "half a body",
            to: pool.handler,
            first: with("content-length: 4096\r\n\r\nabc"),
            drip: b"",
            within: stall,
            told: &[408],
        },
        Slow {
            name: "a body byte by byte",
            to: pool.handler,
            first: with("content-length: 1048576\r\n\r\n"),
            drip: b"x",
            within: stall,
            told: &[408],
        },
        Slow {
            name: "chunks byte by byte",
            to: pool.handler,
            first: with("transfer-encoding: chunked\r\n\r\n"),
            drip: b"1\r\nx\r\n",
            within: stall,
            told: &[408],
        },
        Slow {
            name: "a body that is quick enough for each piece, and not for the whole",
            to: pool.handler,
            first: with("content-length: 1048576\r\n\r\n"),
            drip: &[0; 2048],
            within: whole,
            told: &[408, 413],
        },
        Slow {
            name: "half a chunk's size",
            to: pool.handler,
            first: with("transfer-encoding: chunked\r\n\r\n4"),
            drip: b"",
            within: stall,
            told: &[408],
        },
    ];
    let each = scaled(10, 100);
    let log = mining_meanwhile(&pool, || {
        thread::scope(|scope| {
            for kind in &kinds {
                scope.spawn(move || {
                    let begun = Instant::now();
                    let mut clients: Vec<_> = (0..each)
                        .map(|_| {
                            let mut stream = connect(ATTACKER, kind.to).expect("it listens");
                            stream.write_all(&kind.first).expect("it is sent");
                            stream
                        })
                        .collect();
                    // Until the deadline: then it is seen whether they were cut off.
                    while begun.elapsed() < kind.within {
                        thread::sleep(Duration::from_millis(100));
                        clients.iter_mut().for_each(|stream| drop(stream.write(kind.drip)));
                    }
                    for stream in &mut clients {
                        let (ended, text) = wait_for_end(stream, begun + kind.within + SLACK);
                        assert!(ended - begun >= Duration::from_millis(1), "{}", kind.name);
                        let status = status_of(&text);
                        // Bytes that are still coming when it is closed may take the answer with them.
                        let is_told =
                            status.is_none() || status.is_some_and(|status| kind.told.contains(&status));
                        assert!(is_told, "{}: {text}", kind.name);
                        assert!(
                            !kind.drip.is_empty() || kind.told.is_empty() == status.is_none(),
                            "{}",
                            kind.name
                        );
                    }
                });
            }
        });
    });
    assert_undisturbed(log);
    assert_memory(&pool, before, 20 + each as u64 / 2);
    let stats = pool.stats();
    assert!(stats["connections"].as_u64() < Some(5), "{stats}");
    assert!(stats["turned_away"]["too_slow"].as_u64() >= Some(each as u64 * 8), "{stats}");
    assert_eq!((&stats["queued"], &stats["turned_away"]["gave_way"]), (&0.into(), &0.into()));
}

#[test]
fn clients_that_take_no_answers_get_no_more_of_them() {
    let pool = start(&[]);
    stock(&pool);
    let before = pool.forget_peak();
    let clients = scaled(20, 200);
    let request = b"GET /config.json HTTP/1.1\r\nhost: pool\r\n\r\n".repeat(100);
    let log = mining_meanwhile(&pool, || {
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut stream = connect(ATTACKER, pool.master).expect("it listens");
                    socket2::SockRef::from(&stream).set_recv_buffer_size(4096).expect("a small buffer");
                    let begun = Instant::now();
                    let mut sent = 0;
                    // They ask for as long as they can, which ends where the connection is closed.
                    stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
                    while stream.write_all(&request).is_ok() {
                        sent += request.len();
                        assert!(sent < 256 << 20, "{sent} bytes of requests are taken");
                    }
                    // It was answered until all buffers were full, which takes the time it takes.
                    assert!(begun.elapsed() < PATIENCE);
                });
            }
        });
    });
    assert_undisturbed(log);
    // Sockets have buffers of their own, in the system's memory.
    assert_memory(&pool, before, 20 + clients as u64 / 4);
}

#[test]
fn many_connections_on_which_nothing_is_asked_keep_nobody_out() {
    let many = scaled(1500, 10_000);
    let descriptors = child::raise_descriptor_limit();
    assert!(descriptors > many as u64 + 200, "the system allows {descriptors} open files only: ulimit -n");
    // One pool has room for all of them, the other one for a third.
    for most in [many + 200, many / 3] {
        // They stay while they are counted.
        let pool =
            start(&["--connections", &most.to_string(), "--idle-timeout", "60s", "--header-timeout", "60s"]);
        stock(&pool);
        let before = pool.forget_peak();
        let mut held = Vec::new();
        let log = mining_meanwhile(&pool, || {
            for number in 0..many {
                let mut stream = connect(ATTACKER, pool.handler).expect("it listens");
                if number % 2 == 0 {
                    stream.write_all(b"POST /submit HTTP/1.1\r\nx-slow: ").expect("it is sent");
                }
                held.push(stream);
            }
            let begun = Instant::now();
            let expected = many.min(most - 5);
            while pool.stats()["connections"].as_u64() < Some(expected as u64) {
                assert!(begun.elapsed() < PATIENCE, "{}", pool.stats());
                thread::sleep(BETWEEN_STATS);
            }
            // A miner that comes now is let in as well.
            for _ in 0..20 {
                let mut late = connect(MINER, pool.handler).expect("it listens");
                let empty = submit(999_997, &[]);
                assert_eq!(exchange(&mut late, &empty).expect("an answer").0, 200);
            }
        });
        assert_undisturbed(log);
        let stats = pool.stats();
        let (open, gave_way) = (stats["connections"].as_u64(), stats["turned_away"]["gave_way"].as_u64());
        assert!(open <= Some(most as u64), "{stats}");
        assert!(pool.descriptors() <= most + 100, "{} descriptors", pool.descriptors());
        assert_eq!(gave_way > Some(0), most < many, "{stats}");
        assert_eq!(stats["turned_away"]["refused"], 0);
        // A connection with half a head costs 8 KiB, and its state.
        assert_memory(&pool, before, 20 + most as u64 / 50);
        drop(held);
    }
}

#[test]
fn where_nobody_gives_way_a_new_connection_is_told_so_and_other_addresses_are_let_in() {
    let pool = start(&["--connections", "40", "--stall-timeout", "30s", "--body-timeout", "30s"]);
    let (parent, announcements) = stock(&pool);
    let head = format!("{}content-length: 2048\r\n\r\n", submit_head(parent.height));
    let mut held: Vec<_> = (0..40).map(|_| connect(ATTACKER, pool.handler).expect("it listens")).collect();
    held.iter_mut().for_each(|stream| stream.write_all(head.as_bytes()).expect("it is sent"));
    thread::sleep(Duration::from_millis(300));
    for _ in 0..50 {
        let (status, text) = raw(pool.handler, &submit(parent.height, &announcements[..1]));
        assert_eq!(status, Some(503), "{text}");
        assert!(text.ends_with(r#"{"warn":[],"error":["overloaded"],"result":null}"#), "{text}");
    }
    let log = mining_meanwhile(&pool, || thread::sleep(Duration::from_millis(500)));
    assert_undisturbed(log);
    let stats = pool.stats();
    assert!(stats["turned_away"]["refused"].as_u64() >= Some(50), "{stats}");
    assert!(stats["turned_away"]["gave_way"].as_u64() >= Some(1), "{stats}");
}

#[test]
fn bodies_without_end_are_refused_in_time_and_take_no_memory() {
    let pool = start(&[]);
    stock(&pool);
    let before = pool.forget_peak();
    let head = submit_head(999_997);
    for length in ["1099511627776", "9223372036854775807", "18446744073709551614", "20000000"] {
        let (status, text) = raw(pool.handler, format!("{head}content-length: {length}\r\n\r\n").as_bytes());
        assert!(matches!(status, Some(413 | 400 | 431)), "{length}: {text}");
    }
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let extension = [b"1;", &[b'x'; 4096][..]].concat();
    let log = mining_meanwhile(&pool, || {
        thread::scope(|scope| {
            for number in 0..scaled(8, 100) {
                let (pool, head) = (&pool, &head);
                let piece = [&chunk[..], &extension][number % 2];
                scope.spawn(move || {
                    let mut stream = connect(ATTACKER, pool.handler).expect("it listens");
                    let begun = Instant::now();
                    let begin = format!("{head}transfer-encoding: chunked\r\n\r\n");
                    stream.write_all(begin.as_bytes()).expect("it is sent");
                    let mut sent = 0;
                    while stream.write_all(piece).is_ok() {
                        sent += piece.len();
                        assert!(sent < 64 << 20, "{sent} bytes are taken of a body without end");
                    }
                    assert!(begun.elapsed() < Duration::from_secs(4) + SLACK);
                });
            }
        });
    });
    assert_undisturbed(log);
    assert_memory(&pool, before, scaled(30, 200) as u64);
    assert_eq!(pool.stats()["queued"], 0);
}

#[test]
fn heads_that_are_too_long_or_have_too_many_headers_are_refused() {
    let pool = start(&[]);
    stock(&pool);
    let before = pool.forget_peak();
    let clients = scaled(4, 50);
    let long = "x".repeat(4 << 20);
    let many: String = (0..100_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let floods = [
        format!("GET /{long} HTTP/1.1\r\nhost: pool\r\n\r\n"),
        format!("{long} /config.json HTTP/1.1\r\nhost: pool\r\n\r\n"),
        format!("GET /config.json HTTP/1.1\r\nhost: pool\r\nx-long: {long}\r\n\r\n"),
        format!("GET /config.json HTTP/1.1\r\nhost: pool\r\n{long}: x\r\n\r\n"),
        format!("GET /config.json HTTP/1.1\r\nhost: pool\r\n{many}\r\n"),
        format!("GET /config.json HTTP/1.1\r\nhost: pool\r\n{}\r\n", "x-small: y\r\n".repeat(65)),
    ];
    let log = mining_meanwhile(&pool, || {
        thread::scope(|scope| {
            for flood in &floods {
                for _ in 0..clients {
                    scope.spawn(|| {
                        let begun = Instant::now();
                        let (status, text) = raw(pool.master, flood.as_bytes());
                        // A reset may take the answer with it: there were bytes that nobody read.
                        assert!(matches!(status, None | Some(400 | 414 | 431)), "{text}");
                        assert!(begun.elapsed() < SLACK);
                    });
                }
            }
        });
    });
    assert_undisturbed(log);
    assert_memory(&pool, before, scaled(20, 40) as u64);
    let (status, _) = raw(pool.master, floods[5].as_bytes());
    assert_eq!(status, Some(431));
}

/// A request that is none: its name, its bytes, and the statuses that may answer it. `None`: the connection is closed
/// without an answer.
type Rubbish = (String, Vec<u8>, &'static [Option<u16>]);

/// Requests that are none.
fn rubbish() -> Vec<Rubbish> {
    let head = submit_head(999_997);
    let refused: &[_] = &[Some(400)];
    let or_closed: &[_] = &[Some(400), None];
    let mut rows: Vec<Rubbish> = Vec::new();
    let mut row = |name: &str, bytes: &[u8], expected| rows.push((name.to_owned(), bytes.to_vec(), expected));
    for length in ["-1", "+5", "1e3", "0x10", "5, 6", "", " ", "5 5", "99999999999999999999999", "५", "1\0"]
    {
        let bytes = format!("{head}content-length: {length}\r\n\r\nabcde");
        row(&format!("length {length:?}"), bytes.as_bytes(), refused);
    }
    for (name, headers) in [
        ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n\r\nabcde"),
        ("an encoding that is none", "transfer-encoding: gzip\r\n\r\nabcde"),
        ("chunked not last", "transfer-encoding: chunked, gzip\r\n\r\nabcde"),
        ("NUL in a header", "x-nul: a\0b\r\n\r\n"),
        ("a header's name with a space", "x y: z\r\n\r\n"),
        ("a header without a colon", "nonsense\r\n\r\n"),
        ("a folded header", "x-folded: a\r\n b\r\n\r\n"),
        ("a header before its name", ": y\r\n\r\n"),
    ] {
        row(name, format!("{head}{headers}").as_bytes(), refused);
    }
    for size in ["zz", "-1", "+1", "", "FFFFFFFFFFFFFFFFF", "0x1", "5\n", "1 1"] {
        let bytes = format!("{head}transfer-encoding: chunked\r\n\r\n{size}\r\nabcde\r\n0\r\n\r\n");
        row(&format!("chunk size {size:?}"), bytes.as_bytes(), or_closed);
    }
    for (name, chunks) in [
        ("a chunk longer than it says", "3\r\nabcde\r\n0\r\n\r\n"),
        ("rubbish after a chunk", "3\r\nabcXX0\r\n\r\n"),
    ] {
        let bytes = format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}");
        row(name, bytes.as_bytes(), or_closed);
    }
    for (name, line) in [
        ("no method", " /config.json HTTP/1.1"),
        ("no path", "GET HTTP/1.1"),
        ("nothing", "\0\0\0\0"),
        ("NUL in a method", "G\0T /config.json HTTP/1.1"),
        ("NUL in a path", "GET /con\0fig.json HTTP/1.1"),
        ("a path with a space", "GET /config .json HTTP/1.1"),
        ("a version that is none", "GET /config.json HTTP/9.9"),
        ("another protocol", "SSH-2.0-OpenSSH_9.2"),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"),
        ("no version", "GET /config.json"),
    ] {
        row(name, format!("{line}\r\nhost: pool\r\n\r\n").as_bytes(), or_closed);
    }
    let close = "HTTP/1.1\r\nhost: pool\r\nconnection: close\r\n\r\n";
    for path in
        ["/%", "/%zz", "/%00", "/..%2f..%2fetc/passwd", "/../../etc/passwd", "//", "/config.json%20", "/?%"]
    {
        row(path, format!("GET {path} {close}").as_bytes(), &[Some(404), Some(400)]);
    }
    for method in ["BREW", "get", "GETGETGET", "TRACE", "CONNECT"] {
        let expected: &[_] = &[Some(405), Some(404), Some(400)];
        row(method, format!("{method} /config.json {close}").as_bytes(), expected);
    }
    row("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", or_closed);
    row("a byte that is no text in a path", b"GET /\xff\xfe HTTP/1.1\r\n\r\n", or_closed);
    rows
}

/// Sends everything of [`rubbish`] that is for anybody, and what only closes with the connection.
fn assert_rubbish_is_refused(to: SocketAddrV4, rows: &[Rubbish]) {
    for (name, bytes, expected) in rows {
        let begun = Instant::now();
        let mut stream = connect(ATTACKER, to).expect("it listens");
        stream.write_all(bytes).expect("it is sent");
        let (ended, text) = wait_for_end(&mut stream, begun + PATIENCE);
        assert!(expected.contains(&status_of(&text)), "{name}: {text}");
        assert!(ended - begun < SLACK, "{name}: {:?}", ended - begun);
    }
}

#[test]
fn requests_that_are_none_are_refused_each_for_itself() {
    let pool = start(&[]);
    stock(&pool);
    let before = pool.forget_peak();
    let log = mining_meanwhile(&pool, || {
        let (for_master, for_handler): (Vec<_>, Vec<_>) =
            rubbish().into_iter().partition(|(_, bytes, _)| !bytes.starts_with(b"POST"));
        assert_rubbish_is_refused(pool.master, &for_master);
        assert_rubbish_is_refused(pool.handler, &for_handler);
    });
    assert_undisturbed(log);
    assert_memory(&pool, before, 10);
}

#[test]
fn a_length_that_is_wrong_harms_nobody_but_its_own_request() {
    let pool = start(&[]);
    let (parent, announcements) = stock(&pool);
    let (head, body) = (submit_head(parent.height), *announcements[0].as_bytes());
    // Too long: the rest does not come.
    let long = [format!("{head}content-length: 1025\r\n\r\n").as_bytes(), &body].concat();
    assert_eq!(raw(pool.handler, &long).0, Some(408));
    // Too long, and the client hangs up.
    let mut stream = connect(ATTACKER, pool.handler).expect("it listens");
    stream.write_all(&long).expect("it is sent");
    stream.shutdown(Shutdown::Write).expect("it can be closed");
    let (_, text) = wait_for_end(&mut stream, Instant::now() + SLACK);
    assert!(matches!(status_of(&text), None | Some(400)), "{text}");
    // Too short: what is left is no request.
    let short = [format!("{head}content-length: 1000\r\n\r\n").as_bytes(), &body, b"\r\n\r\n"].concat();
    let (status, text) = raw(pool.handler, &short);
    assert_eq!(status, Some(400));
    assert!(text.contains("size not an even multiple of 1024"), "{text}");
    assert!(text.matches("HTTP/1.1").count() <= 2, "{text}");
    // A length and an encoding: whatever stood between might go by the other one, so nothing is taken for a request
    // that comes after.
    let (length, chunks) = ("content-length: 5\r\n", "transfer-encoding: chunked\r\n");
    for both in [[length, chunks].concat(), [chunks, length].concat()] {
        let next = "GET /nowhere HTTP/1.1\r\nhost: pool\r\n\r\n";
        let (status, text) = raw(pool.handler, format!("{head}{both}\r\n0\r\n\r\n{next}").as_bytes());
        assert_eq!((status, text.matches("HTTP/1.1").count()), (Some(200), 1), "{text}");
    }
    assert_eq!(pool.stats()["accepted"], 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let pool = start(&[]);
    let (parent, announcements) = stock(&pool);
    let log = mining_meanwhile(&pool, || {
        let mut stream = connect(ATTACKER, pool.master).expect("it listens");
        let mut sender = stream.try_clone().expect("a descriptor");
        let count = scaled(2000, 20_000);
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..count {
                    let path = if number % 3 == 0 { "config.json" } else { "nowhere" };
                    let request = format!("GET /{path} HTTP/1.1\r\nhost: pool\r\n\r\n");
                    sender.write_all(request.as_bytes()).expect("it is sent");
                }
            });
            let mut answers = BufReader::new(&mut stream);
            for number in 0..count {
                let (status, _) = read_answer(&mut answers).expect("an answer");
                assert_eq!(status, if number % 3 == 0 { 200 } else { 404 }, "{number}");
            }
        });
    });
    assert_undisturbed(log);
    let batches: Vec<u8> =
        announcements.chunks(3).rev().take(40).flat_map(|batch| submit(parent.height, batch)).collect();
    let mut stream = connect(ATTACKER, pool.handler).expect("it listens");
    stream.write_all(&batches).expect("it is sent");
    let mut answers = BufReader::new(stream);
    for _ in 0..40 {
        let (status, text) = read_answer(&mut answers).expect("an answer");
        assert_eq!(status, 200, "{text}");
    }
}

#[test]
fn batches_beyond_the_bound_are_told_503_memory_stays_and_the_pool_recovers() {
    // Room for twelve bodies, and four times as many clients that post full batches of nonsense all the time.
    let (queue, clients) = (12 * 1024, 48);
    let pool = start(&["--queue", &queue.to_string()]);
    let (parent, announcements) = stock(&pool);
    let nonsense: Vec<Announcement> = (0..1024u32)
        .map(|number| {
            let mut announcement = announcements[0].clone();
            // Another hard nonce each, so that none has anything in common with another.
            announcement.as_bytes_mut()[4..8].copy_from_slice(&number.to_le_bytes());
            announcement
        })
        .collect();
    let request = submit(parent.height, &nonsense);
    let before = pool.forget_peak();
    let statuses = BTreeMap::from([200, 400, 503].map(|status| (status, AtomicUsize::new(0))));
    let end = Instant::now() + Duration::from_secs(scaled(3, 20) as u64);
    let (most_queued, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let queued = pool.stats()["queued"].as_u64().expect("a number") as usize;
                most_queued.fetch_max(queued, Ordering::Relaxed);
                thread::sleep(BETWEEN_STATS);
            }
        });
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = connect(ATTACKER, pool.handler).expect("it listens");
                    while Instant::now() < end {
                        let (status, text) = exchange(&mut stream, &request).expect("an answer");
                        let count = statuses.get(&status).unwrap_or_else(|| panic!("{status}: {text}"));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        over.store(true, Ordering::Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.expect("a client sees an answer each time"));
    });
    let count = |status| statuses[&status].load(Ordering::Relaxed);
    assert!(count(503) > 0 && count(400) > 0 && count(200) == 0, "{statuses:?}");
    assert!(most_queued.load(Ordering::Relaxed) <= queue, "{most_queued:?}");
    // What is held, half as much for keys and hashes, the validator's memory, and what the allocator keeps.
    assert_memory(&pool, before, queue as u64 / 1024 * 3 / 2 + 50);
    assert_eq!(pool.stats()["queued"], 0);
    let log = mining_meanwhile(&pool, || thread::sleep(Duration::from_millis(300)));
    assert_undisturbed(log);
}

/// `pktmine ann` with its API, mining on one thread.
struct Api {
    child: Child,
    address: SocketAddrV4,
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Api {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
        command.args([
            "ann",
            "--difficulty",
            "2",
            "--threads",
            "1",
            "--http",
            "127.0.0.1:0",
            "--http-control",
        ]);
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let log = child.stderr.take().expect("a pipe");
        let mut lines = io::BufRead::lines(BufReader::new(log)).map_while(Result::ok);
        let line = lines.find(|line| line.contains("HTTP API at http://")).expect("the log says where");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.and_then(|text| text.parse().ok()).expect("an address");
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

#[test]
fn the_api_stands_the_same() {
    let api = Api::start();
    let asked = Instant::now();
    let get = || {
        let begun = Instant::now();
        let mut stream = connect(MINER, api.address).expect("it listens");
        let request = b"GET /status.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        let (status, _) = exchange(&mut stream, request).expect("an answer");
        assert!(begun.elapsed() < SLACK, "it took {:?}", begun.elapsed());
        status
    };
    while get() != 200 {
        assert!(asked.elapsed() < PATIENCE, "there is no snapshot");
        thread::sleep(Duration::from_millis(50));
    }
    let mut rows = rubbish();
    // It has a page at `/?%`.
    rows.retain(|(name, bytes, _)| !bytes.starts_with(b"POST") && name != "/?%");
    assert_rubbish_is_refused(api.address, &rows);
    // Ten times as many as are held: silent ones, half heads, half bodies.
    let body = "POST /json_rpc HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    let mut held = Vec::new();
    for number in 0..640 {
        let mut stream = connect(ATTACKER, api.address).expect("it listens");
        let first = ["", "GET /metrics HTTP/1.1\r\nx-slow: ", body][number % 3];
        let _ = stream.write_all(first.as_bytes());
        held.push(stream);
        if number % 64 == 63 {
            assert_eq!(get(), 200);
        }
    }
    let mut greedy = connect(ATTACKER, api.address).expect("it listens");
    greedy.set_write_timeout(Some(Duration::from_secs(15))).expect("a time limit");
    let request = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".repeat(100);
    let begun = Instant::now();
    // It is closed when it has taken nothing for ten seconds, or earlier, for others.
    while greedy.write_all(&request).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it may ask without end");
        let mut another = connect(MINER, api.address).expect("it listens");
        another.write_all(b"G").expect("it is sent");
        held.push(another);
    }
    assert_eq!(get(), 200);
}
