//! The whole program on a terminal: what is shown, and what keys do.
#![cfg(target_os = "linux")]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

/// The program on a terminal of its own, which is emulated.
struct Terminal {
    child: Child,
    keys: File,
    /// The program's side, kept open so that its modes can be looked at after the program has ended.
    line: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(arguments: &[&str], columns: u16, rows: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
        grantpt(&ours).expect("it is ours");
        unlockpt(&ours).expect("it is ours");
        let name = ptsname(&ours, Vec::new()).expect("it has a name");
        let name = name.to_str().expect("UTF-8").to_owned();
        resize(&ours, columns, rows);
        let line = File::options().read(true).write(true).open(name).expect("it opens");
        let end = || Stdio::from(line.try_clone().expect("a file"));
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_pktmine")])
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("util-linux is there");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 1000)));
        let (mut output, shown) = (File::from(ours.try_clone().expect("a file")), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = output.read(&mut bytes) {
                shown.lock().expect("no panic").process(&bytes[..n]);
            }
        });
        Self { child, keys: File::from(ours), line, screen }
    }

    /// What is on the screen.
    fn text(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    fn wait_for(&self, what: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = self.text();
            if text.contains(what) {
                return text;
            }
            assert!(Instant::now() < deadline, "never {what:?}:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Waits for the end; the exit code and what is on the screen then.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        };
        let modes = tcgetattr(&self.line).expect("a terminal").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "the terminal is as it was");
        thread::sleep(Duration::from_millis(200));
        (status.code(), self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The program ends with its terminal, at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: impl AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("it is a terminal");
}

/// How many blocks are on the screen.
fn blocks(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("keys: ")).count()
}

#[test]
fn a_terminal_shows_a_block_below_the_log_and_keys_pause_resume_tell_and_quit() {
    let mut terminal = Terminal::start(&["ann", "--difficulty", "2", "-t", "1"], 80, 40);
    let text = terminal.wait_for("── mining");
    assert!(text.contains("INFO mining on cpu"), "the log is above it:\n{text}");
    assert!(!text.contains("INFO columns"), "no legend of lines that are not there:\n{text}");
    terminal.wait_for("acc/dup/rej/stale/over/unk");
    terminal.press("p");
    let text = terminal.wait_for("── paused: asked to");
    assert!(text.contains("INFO mining is paused") && text.contains("r resume"), "{text}");
    terminal.press("\x1b[A\x1b[Br");
    terminal.wait_for("INFO mining goes on");
    terminal.wait_for("── mining");
    terminal.press("h");
    terminal.wait_for("total ");
    terminal.press("S");
    terminal.wait_for("found ");
    terminal.press("c");
    let text = terminal.wait_for("decides what is mined");
    assert_eq!(blocks(&text), 1, "{text}");
    resize(&terminal.keys, 60, 30);
    terminal.screen.lock().expect("no panic").screen_mut().set_size(30, 60);
    thread::sleep(Duration::from_millis(600));
    terminal.press("q");
    let (code, text) = terminal.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("goodrate 100.0%") && text.contains("the miner"), "{text}");
    assert_eq!(blocks(&text), 0, "nothing is left of the block:\n{text}");
}

#[test]
fn ctrl_c_restores_the_terminal_also_when_pressed_twice() {
    for presses in ["\x03", "\x03\x03"] {
        let mut terminal = Terminal::start(&["ann", "--difficulty", "2", "-t", "1"], 80, 40);
        terminal.wait_for("age 1 s");
        terminal.press(presses);
        let (code, text) = terminal.end();
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(blocks(&text), 0, "{text}");
    }
}

#[test]
fn a_terminal_that_cannot_be_painted_on_and_one_that_wants_json_get_lines() {
    let mut terminal = Terminal::start(&["ann", "--json", "--difficulty", "2", "--interval", "1"], 80, 40);
    terminal.wait_for("\"event\":\"status\"");
    terminal.press("\x03");
    assert_eq!(terminal.end().0, Some(0));
    let arguments = ["ann", "-q", "--difficulty", "2", "--interval", "1", "--duration", "4s"];
    let (code, text) = Terminal::start(&arguments, 80, 40).end();
    assert_eq!((code, blocks(&text)), (Some(0), 0));
    assert!(text.contains("goodrate 100.0%") && !text.contains("INFO"), "{text}");
}
