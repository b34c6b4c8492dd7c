//! `pktmine pool` as a process of its own, watched through `/proc`, and announcements for it.

#![allow(dead_code, reason = "a test and a benchmark share it, and neither needs all")]

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    ops::Range,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use kernels::{
    Announcement, Hash32, Header, Kernel, WorkBits,
    round::{RoundMemory, mine_round},
};
use pktmine::protocol::{BlockHash, BlockInfo};
use serde_json::Value;

/// Whoever does not answer for so long never will.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A pool, killed when it goes out of scope.
pub struct Pool {
    child: Child,
    pub master: SocketAddrV4,
    pub handler: SocketAddrV4,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pool {
    /// Starts one that takes announcements of difficulty 2, on free ports, whose chain stands still.
    pub fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
        command.args(["pool", "--listen", "127.0.0.1:0", "--difficulty", "2", "--block-time", "0"]);
        command.args(flags).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the command starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut address = |after: &str| {
            let line = lines.find(|line| line.contains(after)).expect("the log says where it listens");
            let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
            address.and_then(|text| text.parse().ok()).expect("an address")
        };
        let (master, handler) = (address("master at "), address("ann handler at "));
        // It reads on so that the pool can always write.
        thread::spawn(move || lines.for_each(drop));
        Self { child, master, handler }
    }

    /// What the system says of the process, in KiB.
    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux tells it");
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Resident memory in MiB, from which on [`Pool::peak`] counts. A kernel that cannot forget the old peak says
    /// that one here, too.
    pub fn forget_peak(&self) -> u64 {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
        self.peak()
    }

    /// The most resident memory that it ever had, or had since [`Pool::forget_peak`], in MiB.
    pub fn peak(&self) -> u64 {
        self.status("VmHWM") / 1024
    }

    /// Processor time so far, of all threads.
    pub fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
        // Linux counts in hundredths of a second, wherever programs read it.
        Duration::from_millis(10 * ticks)
    }

    /// How many files it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    pub fn stats(&self) -> Value {
        self.get("stats")
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = ureq::get(format!("http://{}/{path}", self.master)).call().expect("it answers");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON")
    }

    /// What is mined on: the third block below the tip.
    pub fn parent(&self) -> Parent {
        let mut hash: BlockHash =
            self.get("config.json")["tipHash"].as_str().expect("a tip").parse().expect("a hash");
        loop {
            let body = self.get(&format!("blkinfo_{hash}.json")).to_string();
            let block = BlockInfo::parse(body.as_bytes()).expect("a block").header;
            if block.height == 999_997 {
                return Parent { height: 999_997, hash: block.hash.0 };
            }
            hash = block.previousblockhash;
        }
    }
}

/// What is mined on.
#[derive(Clone, Copy)]
pub struct Parent {
    pub height: u32,
    pub hash: Hash32,
}

/// The announcements of some hard nonces, round by round: some 500 of each at difficulty 2. On as many threads.
pub fn mine(parent: Parent, hard_nonces: Range<u32>, threads: u32) -> Vec<Vec<Announcement>> {
    let next = AtomicU32::new(hard_nonces.start);
    let work = || {
        let mut passes = Kernel::detect().passes();
        let mut memory = RoundMemory::default();
        let mut rounds = Vec::new();
        loop {
            let hard_nonce = next.fetch_add(1, Ordering::Relaxed);
            if !hard_nonces.contains(&hard_nonce) {
                return rounds;
            }
            let header = Header::new(hard_nonce, WorkBits::at_least(2), parent.height, [0; 32]);
            let nonces = 0..header.work_bits.soft_nonce_max() + 1;
            // A few programs are of no use: then there is a round less.
            rounds.extend(mine_round(&header, &parent.hash, &mut *passes, nonces, &mut memory));
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it mines")).collect()
    })
}

/// A connection from an address of this machine's.
pub fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    // As many as there are ports for each address that is connected to.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&SocketAddr::from(to).into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The head of a batch, but for its length and its end.
pub fn submit_head(parent_height: u32) -> String {
    format!(
        "POST /submit HTTP/1.1\r\nhost: pool\r\nx-pc-payto: me\r\nx-pc-sver: 1\r\nx-pc-annver: 1\r\n\
         x-pc-worknum: {}\r\n",
        parent_height + 1
    )
}

/// A batch as it goes out.
pub fn submit(parent_height: u32, announcements: &[Announcement]) -> Vec<u8> {
    let body: Vec<u8> = announcements.iter().flat_map(|announcement| *announcement.as_bytes()).collect();
    let head = format!("{}content-length: {}\r\n\r\n", submit_head(parent_height), body.len());
    [head.as_bytes(), &body].concat()
}

/// Reads one answer that says how long it is: its status, and its body.
pub fn read_answer(stream: &mut impl Read) -> io::Result<(u16, String)> {
    let broken = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(|_| broken("no text"))?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((status.ok_or_else(|| broken("no status"))?, String::from_utf8_lossy(&body).into_owned()))
}

/// Sends a request and reads its answer.
pub fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<(u16, String)> {
    stream.write_all(request)?;
    read_answer(&mut BufReader::new(stream))
}

/// Raises this process's limit on open files as far as it may: what it is then.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
