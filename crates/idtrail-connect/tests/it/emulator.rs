//! Starts the stand-ins for clouds that `scripts/emulators` installed. One that is missing fails the test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running emulator in a directory of its own, ended when dropped.
pub(crate) struct Emulator {
    child: Child,
    dir: tempfile::TempDir,
}

impl Emulator {
    /// Starts `program` of the emulator's venv; `arguments` may say `{home}`.
    pub(crate) fn start(name: &str, program: &str, arguments: &[&str]) -> Self {
        let venv = place(name);
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(venv.join("bin").join(program))
            .args(arguments)
            .env("HOME", venv.join("home"))
            .env("PYTHONUNBUFFERED", "1")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    /// Waits until something listens on the port.
    pub(crate) async fn listening(&mut self, port: u16) {
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the emulator ended:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the emulator does not listen:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where the repository is.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A script of ours that an emulator runs.
pub(crate) fn script(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/emulators").join(name);
    path.to_str().unwrap().to_owned()
}

pub(crate) fn place(name: &str) -> PathBuf {
    let found = Command::new(root().join("scripts/emulators")).args(["where", name]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end())
}
