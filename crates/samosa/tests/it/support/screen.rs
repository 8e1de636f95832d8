//! A program on a terminal of its own, with our hands on its keys.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Asks a terminal where its cursor is.
const WHERE: &[u8] = b"\x1b[6n";

pub(crate) struct Screen {
    pub(crate) child: Child,
    /// Our end of the terminal, and its name.
    keys: Option<File>,
    /// Ends the thread that reads, which has a copy of our end.
    stop: Arc<AtomicBool>,
    name: String,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// Starts it on a terminal of 30 lines and so many columns.
    pub(crate) fn start(command: &mut Command, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 30, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || File::options().read(true).write(true).open(&name).unwrap();
        let child = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
        let keys = File::from(ours);
        let (mut screen, written) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&written), Arc::clone(&stop));
        let read = move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let mut seen = seen.lock().unwrap();
                // A question may be cut in two.
                let from = seen.len().saturating_sub(WHERE.len() - 1);
                seen.extend_from_slice(&buffer[..length]);
                for _ in seen[from..].windows(WHERE.len()).filter(|bytes| *bytes == WHERE) {
                    screen.write_all(b"\x1b[1;1R").unwrap();
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        thread::Builder::new().spawn(read).unwrap();
        Self { child, keys: Some(keys), stop, name, written }
    }

    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    pub(crate) fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2000 {
            if holds(self) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("never came: {what}: {:?}", self.written());
    }

    pub(crate) fn press(&self, key: &[u8]) {
        self.keys.as_ref().unwrap().write_all(key).unwrap();
    }

    /// Takes the terminal away after these keys; the first of them must bring something to the screen, which wakes the
    /// thread that reads.
    pub(crate) fn hang_up(&mut self, keys: &[u8]) {
        self.stop.store(true, Ordering::Relaxed);
        self.press(keys);
        self.keys = None;
    }

    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        self.wait_for("its end", |screen| {
            status = screen.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Whether the terminal shows again what is typed.
    pub(crate) fn is_as_before(&self) -> bool {
        let terminal = File::options().read(true).write(true).open(&self.name).unwrap();
        tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
