//! A real PostgreSQL in a directory of its own, ended when dropped. A missing one fails the tests that need it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let versions =
            std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed: scripts/test does it");
        let bin = versions.map(|entry| entry.unwrap().path().join("bin")).max().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { dir: tempfile::tempdir().unwrap(), bin, port };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(cluster.dir.path()));
        }
        cluster.tool("initdb", &["-D", &cluster.data(), "-U", "admin", "-A", "trust", "-N"]);
        cluster.up();
        cluster.sql(
            "CREATE ROLE idtrail_writer LOGIN; CREATE ROLE idtrail_eraser LOGIN; \
             CREATE SCHEMA audit; GRANT USAGE ON SCHEMA audit TO idtrail_writer",
        );
        cluster
    }

    /// Starts the server again after [`Self::down`].
    pub(crate) fn up(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c fsync=off -k {}",
            self.port,
            self.dir.path().display()
        );
        let log = self.dir.path().join("log");
        self.tool(
            "pg_ctl",
            &["-D", &self.data(), "-w", "-l", log.to_str().unwrap(), "-o", &options, "start"],
        );
    }

    /// Ends the server as a power cut would.
    pub(crate) fn down(&self) {
        self.tool("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Runs statements as the admin and returns the rows without decoration.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let mut psql = self.program("psql");
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "admin", "-d", "postgres"]);
        psql.args(["-v", "ON_ERROR_STOP=1", "-At", "-q", "-c", statements]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn seqs(&self, table: &str) -> Vec<u64> {
        let rows = self.sql(&format!("SELECT seq FROM {table} ORDER BY log_id, seq"));
        rows.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn data(&self) -> String {
        self.dir.path().join("data").to_str().unwrap().to_owned()
    }

    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        run(self.program(name).args(arguments));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be down already.
        let data = self.data();
        let mut stop = self.program("pg_ctl");
        let _ = stop
            .args(["-D", &data, "-m", "immediate", "stop"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0\n")
}

fn run(command: &mut Command) {
    // Files and not pipes: the server would keep a pipe open for ever.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}
