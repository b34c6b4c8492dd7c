//! Bytes to the listeners of a local pool: whatever they are, what comes back is HTTP, the connection ends, and others
//! are served.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use pktmine::local_pool::{LocalPool, Settings};

use crate::bytes::Bytes;

/// Words of requests.
pub const WORDS: &[&str] = &[
    "GET ",
    "HEAD ",
    "POST ",
    "PUT ",
    "/config.json",
    "/stats",
    "/submit",
    "/control",
    "/blkinfo_",
    ".json",
    "/redirected/",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host: a\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Content-Length: 1024\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "x-pc-payto: me\r\n",
    "x-pc-sver: 1\r\n",
    "x-pc-annver: 1\r\n",
    "x-pc-worknum: 999998\r\n",
    "\r\n\r\n",
    "400\r\n",
    "0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "\0",
];

/// How long an answer may take at the most: far above the pool's own time-outs.
const PATIENCE: Duration = Duration::from_secs(20);

static POOL: LazyLock<LocalPool> = LazyLock::new(|| {
    let settings = Settings {
        header_timeout: Duration::from_secs(2),
        body_timeout: Duration::from_secs(2),
        validators: 1,
        ..Settings::default()
    };
    LocalPool::start(settings).expect("a pool starts on a free port")
});

/// A byte of choices, then what is sent: to the master or to the handler, in one piece or in two, with the end
/// of it told at once or after the first bytes of an answer.
pub fn requests(data: &[u8]) {
    let mut bytes = Bytes(data);
    let choices = bytes.u8();
    let url = if choices & 1 == 0 { POOL.url() } else { POOL.handler_urls().swap_remove(0) };
    let port = url.port().expect("a port that the system chose");
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let cut = if choices & 2 == 0 { 0 } else { bytes.0.len() * usize::from(choices) / 256 };
    let waits = if choices & 4 == 0 { Duration::ZERO } else { Duration::from_millis(5) };
    let answers = talk(address, [&bytes.0[..cut], &bytes.0[cut..]], waits);
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answers));
    if choices & 0xf8 == 0 {
        let request = b"GET /stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let port = POOL.url().port().expect("a port that the system chose");
        let answer = talk(SocketAddr::from(([127, 0, 0, 1], port)), [request, b""], PATIENCE);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "others are served");
    }
}

/// Sends the pieces, waits so long for the beginning of an answer, says that nothing more will come, and reads until the
/// connection ends.
fn talk(address: SocketAddr, pieces: [&[u8]; 2], waits: Duration) -> Vec<u8> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).expect("the pool accepts connections");
    let _ = stream.set_nodelay(true);
    let mut answers = Vec::new();
    // A pool that has seen enough closes the connection, and then these fail.
    let _ = pieces.into_iter().try_for_each(|piece| stream.write_all(piece));
    if !waits.is_zero() {
        let _ = stream.set_read_timeout(Some(waits));
        let mut first = [0; 512];
        if let Ok(read) = stream.read(&mut first) {
            answers.extend_from_slice(&first[..read]);
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    match stream.read_to_end(&mut answers) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            panic!("a connection of which nothing more can come was open for {:?}", begin.elapsed())
        }
        _ => answers,
    }
}
