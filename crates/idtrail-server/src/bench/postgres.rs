//! A private PostgreSQL to compare with: its own cluster in a temporary directory, durable commits, the table that
//! one would write without us, and single-row inserts by `pgbench`.
//!
//! The comparison is meant to be fair to PostgreSQL: it speaks its own protocol with prepared statements, gets
//! constant text that it need not parse or check, and has room for its write-ahead log. Durability is the same as
//! ours: `fsync` and `synchronous_commit` are on.
//!
//! The cluster ends and its directory goes with [`Postgres::stop`], or, without a word about errors, when it is
//! dropped. PostgreSQL refuses to run as root, so root runs it as the user `postgres`.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;
use idtrail_port::{Disk, Entropy, Privacy, create_dir_durable, random, write_atomic};

/// Directory with one subdirectory for each installed version (Debian).
const VERSIONS_DIR: &str = "/usr/lib/postgresql";
const USER: &str = "postgres";
/// A Unix socket's path must be shorter than this (Linux: 108 bytes with the final zero).
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Longest output of a program that an error repeats, in characters.
const OUTPUT_CHARS_MAX: usize = 2000;

const SCHEMA: &str = "CREATE TABLE ev_plain(
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cust text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  body text NOT NULL);
CREATE INDEX ON ev_plain(cust, id);";

/// One event of about 650 bytes for one of two million customers.
const INSERT: &str = concat!(
    "\\set c random(1, 2000000)\n",
    "INSERT INTO ev_plain(cust, body) VALUES (",
    "'cust_hash_' || encode(sha256(CAST(CAST(:c AS text) AS bytea)),'hex'), ",
    r#"'{"auditEvent": {"eventType": "IDENTITY_RESOLUTION","timestamp": "2023-10-27T14.30.00.123Z","#,
    r#""interactionId": "i-12345678-90ab-cdef-1234-567890abcdef","channelType": "VOICE","#,
    r#""resolvedCustomerId": "cust_hash_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","#,
    r#""resolutionSource": "CRM_API_LOOKUP","piiContext": {"#,
    r#""phoneHash": "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e","#,
    r#""emailHash": "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c","#,
    r#""accountNumberHash": "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb9"},"#,
    r#""complianceFlags": {"gdprConsentRecorded": true,"dataSubjectRequestPending": false},"#,
    r#""agentId": null,"queueId": "q-sales-support"}}');"#,
    "\n",
);

/// One event's text, as [`INSERT`] has it, for inserts of many rows: `$body$…$body$`.
fn body_literal() -> &'static str {
    let start = INSERT.find("'{\"auditEvent\"").unwrap_or_default();
    INSERT.get(start..).and_then(|rest| rest.strip_suffix(");\n")).unwrap_or("''")
}

/// The customer of a row whose number is an expression.
fn customer_sql(number: &str) -> String {
    format!("'cust_hash_' || encode(sha256(CAST(CAST({number} AS text) AS bytea)),'hex')")
}

/// Why PostgreSQL could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It is not installed.
    #[error("PostgreSQL with pgbench is neither in PATH nor under /usr/lib/postgresql")]
    NotInstalled,
    /// The directory is too deep for a Unix socket.
    #[error("directory is too deep for a Unix socket. path={}", .0.display())]
    TooDeep(PathBuf),
    /// A program could not be started.
    #[error("program cannot be started. program={program}")]
    Start {
        /// Its name.
        program: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("program failed. program={program}, output={output}")]
    Failed {
        /// Its name.
        program: String,
        /// The end of what it said.
        output: String,
    },
    /// What `pgbench` printed has no figures.
    #[error("output of pgbench cannot be understood")]
    Output,
    /// A file or port is not to be had.
    #[error("file or port cannot be used")]
    Io(#[from] io::Error),
}

/// What one run gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Committed inserts per second, without the time to connect.
    pub tps: f64,
    /// Mean time of an insert in milliseconds.
    pub latency_mean_ms: f64,
}

/// A running cluster.
pub struct Postgres {
    dir: PathBuf,
    programs: Programs,
    port: u16,
    stopped: bool,
}

/// Where the programs are, and as whom they run.
struct Programs {
    bin: PathBuf,
    as_user: bool,
}

impl Postgres {
    /// Makes and starts a cluster in a new directory under `base`, which must be on the file system to be measured.
    /// `path` is the value of `PATH`.
    ///
    /// # Errors
    /// See [`PostgresError`]. Nothing is left behind.
    pub fn start(
        disk: &dyn Disk,
        entropy: &dyn Entropy,
        base: &Path,
        path: Option<&str>,
    ) -> Result<Self, PostgresError> {
        let programs = Programs { bin: find(disk, path)?, as_user: is_root()? };
        let dir = base.join(format!("idtrail-pg-{}", HEXLOWER.encode(&random::<6>(entropy))));
        if dir.as_os_str().len() + ".s.PGSQL.65535".len() + 1 > SOCKET_PATH_BYTES_MAX {
            return Err(PostgresError::TooDeep(dir));
        }
        create_dir_durable(disk, &dir)?;
        // From here on, dropping it cleans up.
        let postgres = Self { dir, programs, port: free_port()?, stopped: false };
        let script = postgres.dir.join("insert.sql");
        write_atomic(disk, &script, INSERT.as_bytes(), Privacy::Public)?;
        if postgres.programs.as_user {
            output(Command::new("chown").arg("-R").arg(USER).arg(&postgres.dir))?;
        }
        postgres.initialise()?;
        Ok(postgres)
    }

    fn initialise(&self) -> Result<(), PostgresError> {
        let data = self.dir.join("data");
        let mut initdb = self.programs.command("initdb");
        initdb.arg("-D").arg(&data).args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        output(&mut initdb)?;
        let socket_dir = self.dir.display();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={socket_dir} \
             -c shared_buffers=512MB -c fsync=on -c synchronous_commit=on -c max_connections=300 \
             -c max_wal_size=4GB",
            port = self.port,
        );
        let mut start = self.programs.command("pg_ctl");
        start
            .arg("-D")
            .arg(&data)
            .arg("-l")
            .arg(self.dir.join("log"))
            .args(["-w", "-t", "60", "-o", &options]);
        // The server keeps what it inherits: a pipe would never end.
        start.arg("start").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let status =
            start.status().map_err(|source| PostgresError::Start { program: "pg_ctl".to_owned(), source })?;
        if !status.success() {
            return Err(PostgresError::Failed {
                program: "pg_ctl".to_owned(),
                output: "see its log".to_owned(),
            });
        }
        let mut psql = self.programs.command("psql");
        psql.args(["-h", "127.0.0.1", "-U", USER, "-q", "-v", "ON_ERROR_STOP=1", "-c", SCHEMA, "-p"]);
        output(psql.arg(self.port.to_string()).arg("postgres"))?;
        Ok(())
    }

    /// Returns the version, such as `postgres (PostgreSQL) 15.18`.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn version(&self) -> Result<String, PostgresError> {
        Ok(output(self.programs.command("postgres").arg("--version"))?.trim().to_owned())
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the cluster's directory, which its server can read and write.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs statements as the superuser and returns the rows without decoration.
    ///
    /// # Errors
    /// If one fails; those before it are done.
    pub fn sql(&self, statements: &str) -> Result<String, PostgresError> {
        let mut psql = self.programs.command("psql");
        psql.args(["-h", "127.0.0.1", "-U", USER, "-q", "-At", "-v", "ON_ERROR_STOP=1", "-p"]);
        output(psql.arg(self.port.to_string()).args(["-d", "postgres", "-c", statements]))
    }

    /// Inserts single rows over `connections` connections for `seconds`, each row durable before the next.
    ///
    /// # Errors
    /// If `pgbench` fails or prints no figures.
    pub fn measure(&self, connections: u32, seconds: u32) -> Result<Rate, PostgresError> {
        let mut pgbench = self.programs.command("pgbench");
        pgbench.args(["-h", "127.0.0.1", "-U", USER, "-n", "-M", "prepared", "-j", "1", "-p"]);
        pgbench.arg(self.port.to_string()).arg("-c").arg(connections.to_string());
        pgbench.arg("-T").arg(seconds.to_string()).arg("-f").arg(self.dir.join("insert.sql")).arg("postgres");
        figures(&output(&mut pgbench)?).ok_or(PostgresError::Output)
    }

    /// Inserts `rows` rows per statement over `connections` connections for `seconds`; a transaction is a statement.
    ///
    /// # Errors
    /// As [`Postgres::measure`].
    pub fn measure_rows(&self, connections: u32, seconds: u32, rows: u32) -> Result<Rate, PostgresError> {
        let script = format!(
            "\\set c random(1, 2000000)\nINSERT INTO ev_plain(cust, body) SELECT {}, {} FROM generate_series(1, {rows}) g;\n",
            customer_sql(":c + g"),
            body_literal()
        );
        self.measure_script(&script, connections, seconds)
    }

    /// Reads all rows of one of `people` customers per query.
    ///
    /// # Errors
    /// As [`Postgres::measure`].
    pub fn measure_select(&self, connections: u32, seconds: u32, people: u64) -> Result<Rate, PostgresError> {
        let script = format!(
            "\\set c random(1, {people})\nSELECT id, at, body FROM ev_plain WHERE cust = {} ORDER BY id;\n",
            customer_sql(":c")
        );
        self.measure_script(&script, connections, seconds)
    }

    /// Adds rows of `people` customers, spread evenly, and lets the planner look at them.
    ///
    /// # Errors
    /// If the statement fails.
    pub fn fill(&self, rows: u64, people: u64) -> Result<(), PostgresError> {
        let number = format!("1 + floor(random() * {people})::bigint + g * 0");
        let fill = format!(
            "INSERT INTO ev_plain(cust, body) SELECT {}, {} FROM generate_series(1, {rows}) g",
            customer_sql(&number),
            body_literal()
        );
        self.sql(&fill)?;
        self.sql("VACUUM ANALYZE ev_plain").map(drop)
    }

    #[allow(clippy::disallowed_methods, reason = "a script that is read at once and goes with the cluster")]
    fn measure_script(&self, script: &str, connections: u32, seconds: u32) -> Result<Rate, PostgresError> {
        let path = self.dir.join("measured.sql");
        std::fs::write(&path, script)?;
        let mut pgbench = self.programs.command("pgbench");
        pgbench.args(["-h", "127.0.0.1", "-U", USER, "-n", "-M", "prepared", "-j", "1", "-p"]);
        pgbench.arg(self.port.to_string()).arg("-c").arg(connections.to_string());
        pgbench.arg("-T").arg(seconds.to_string()).arg("-f").arg(path).arg("postgres");
        figures(&output(&mut pgbench)?).ok_or(PostgresError::Output)
    }

    /// Stops the cluster and removes its directory.
    ///
    /// # Errors
    /// If either fails.
    pub fn stop(mut self) -> Result<(), PostgresError> {
        self.stopped = true;
        self.shut_down("fast")?;
        std::fs::remove_dir_all(&self.dir)?;
        Ok(())
    }

    fn shut_down(&self, mode: &str) -> Result<(), PostgresError> {
        let mut stop = self.programs.command("pg_ctl");
        output(stop.arg("-D").arg(self.dir.join("data")).args(["-m", mode, "-w", "stop"])).map(drop)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !self.stopped {
            // Nobody is left to hear about an error; the data is of no value.
            let _ = self.shut_down("immediate");
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Programs {
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if self.as_user {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={USER}"))
                .arg(format!("--regid={USER}"))
                .arg("--init-groups")
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        // The caller's directory may not be readable for the other user.
        command.current_dir("/");
        command
    }
}

/// Returns the directory with the programs: that of `PATH`, else the newest version installed.
fn find(disk: &dyn Disk, path: Option<&str>) -> Result<PathBuf, PostgresError> {
    let is_whole = |dir: &Path| {
        let mut programs = ["initdb", "pg_ctl", "postgres", "psql", "pgbench"].into_iter();
        programs.all(|name| disk.exists(&dir.join(name)).unwrap_or(false))
    };
    let in_path = path.unwrap_or_default().split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let mut versions: Vec<(u32, PathBuf)> = disk
        .list(Path::new(VERSIONS_DIR))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| Some((name.parse().ok()?, Path::new(VERSIONS_DIR).join(name).join("bin"))))
        .collect();
    versions.sort();
    let installed = versions.into_iter().rev().map(|(_, dir)| dir);
    in_path.chain(installed).find(|dir| is_whole(dir)).ok_or(PostgresError::NotInstalled)
}

fn is_root() -> Result<bool, PostgresError> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Returns a port that was free a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Runs a program to its end and returns what it printed.
fn output(command: &mut Command) -> Result<String, PostgresError> {
    let name = command_name(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PostgresError::Start { program: name.clone(), source })?;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(printed);
    }
    let all = format!("{printed}{}", String::from_utf8_lossy(&done.stderr));
    let skipped = all.chars().count().saturating_sub(OUTPUT_CHARS_MAX);
    Err(PostgresError::Failed { program: name, output: all.chars().skip(skipped).collect() })
}

/// Returns the name of the program that matters, which may stand behind `setpriv`.
fn command_name(command: &Command) -> String {
    let mut parts =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|part| part.to_string_lossy());
    parts.find(|part| part != "setpriv" && !part.starts_with("--")).unwrap_or_default().into_owned()
}

/// Reads the figures from what `pgbench` prints.
fn figures(printed: &str) -> Option<Rate> {
    let number = |start: &str| {
        let line = printed.lines().find(|line| line.starts_with(start))?;
        line.get(start.len()..)?.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(Rate { tps: number("tps = ")?, latency_mean_ms: number("latency average = ")? })
}

#[cfg(test)]
mod tests {
    use idtrail_port::os::{OsDisk, OsEntropy};

    use super::*;

    #[test]
    fn figures_are_read_from_the_output() {
        let printed = "transaction type: insert.sql\nnumber of clients: 64\nlatency average = 6.409 ms\n\
                       initial connection time = 80.1 ms\ntps = 9985.5 (without initial connection time)\n";
        assert_eq!(figures(printed), Some(Rate { tps: 9985.5, latency_mean_ms: 6.409 }));
        assert_eq!(figures("tps = many"), None);
        assert_eq!(figures(""), None);
    }

    #[test]
    fn cluster_runs_is_measured_and_leaves_nothing() {
        if matches!(find(&OsDisk, None), Err(PostgresError::NotInstalled)) {
            eprintln!("SKIPPED: PostgreSQL is not installed, so the comparison with it was not tested");
            return;
        }
        let base = tempfile::tempdir_in("/tmp").unwrap();
        // The directory must be passable for the user that PostgreSQL runs as.
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(base.path(), passable).unwrap();
        let postgres = Postgres::start(&OsDisk, &OsEntropy, base.path(), None).unwrap();
        assert!(postgres.version().unwrap().contains("PostgreSQL"));
        let rate = postgres.measure(4, 1).unwrap();
        assert!(rate.tps > 10.0 && rate.latency_mean_ms > 0.0, "{rate:?}");
        postgres.stop().unwrap();

        let dropped = Postgres::start(&OsDisk, &OsEntropy, base.path(), None).unwrap();
        drop(dropped);
        assert!(OsDisk.list(base.path()).unwrap().is_empty());
    }
}
