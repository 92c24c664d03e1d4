//! Starts the binary in a directory of its own and talks to it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use idtrail_port::Network as _;
use idtrail_port::os::{OsDisk, OsEntropy, OsNetwork};
use idtrail_server::credentials::CredentialStore;
use idtrail_server::engine::Ports;
use idtrail_server::serve::Server;
use idtrail_server::settings::Settings;
use idtrail_sim::SimClock;
use idtrail_tlog::Policy;
use idtrail_vault::Kek;
use serde_json::{Value, json};

pub(crate) const EVENTS: &str = "/api/v1/events";
pub(crate) const ACCESS: &str = "/api/v1/compliance/dsar/audit-trail";

pub(crate) fn sample() -> Value {
    serde_json::from_str(idtrail_server::synthetic::SAMPLES[0]).unwrap()
}

/// Runs a command to its end.
pub(crate) fn idtrail(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_idtrail")).args(arguments).output().unwrap()
}

/// An installation that can be started and killed.
pub(crate) struct Installation {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: String,
    pub(crate) person: (String, String),
    /// Everything that every process wrote to its standard error.
    pub(crate) log: Arc<Mutex<String>>,
}

pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    network: Arc<OsNetwork>,
    /// Of the installation's own person; the issuer limits how often one may ask.
    token: std::sync::OnceLock<String>,
}

impl Installation {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// `extra` is added to the configuration.
    pub(crate) fn with(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let made = idtrail(&["init", "--dir", home.to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        let config = home.join("idtrail.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let first =
            format!("listen = \"127.0.0.1:0\"\n{text}\n{extra}\n[segments]\nsegment_bytes = 1048576\n");
        std::fs::write(&config, first).unwrap();
        let mut new = Self { dir, key: String::new(), person: Default::default(), log: Arc::default() };
        new.key = new
            .credential(&[
                "--name",
                "contact-centre",
                "--role",
                "ingest",
                "--role",
                "dpo",
                "--role",
                "auditor",
            ])
            .1;
        new.person = new.credential(&["--person", "--name", "dpo-1", "--role", "dpo"]);
        new
    }

    /// An empty directory, with credentials that what is put there knows.
    pub(crate) fn empty(key: &str, person: (String, String)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, key: key.to_owned(), person, log: Arc::default() }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home().join("idtrail.toml")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::parse(&std::fs::read_to_string(self.home().join("policy.txt")).unwrap()).unwrap()
    }

    /// Makes a credential and returns its id and secret.
    pub(crate) fn credential(&self, arguments: &[&str]) -> (String, String) {
        let config = self.config();
        let mut all = vec!["key", "create", "--json", "--config", config.to_str().unwrap()];
        all.extend(arguments);
        let output = idtrail(&all);
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |names: &[&str]| {
            let found = names.iter().find_map(|name| made.get(*name).and_then(Value::as_str));
            found.unwrap_or_else(|| panic!("{made}")).to_owned()
        };
        (text(&["clientId", "id"]), text(&["apiKey", "clientSecret"]))
    }

    pub(crate) fn start(&self) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_idtrail"))
            .args(["serve", "--config", self.config().to_str().unwrap()])
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended: {seen}");
            seen.push_str(&line);
            if let Some(rest) = line.split("address=").nth(1) {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        let log = Arc::clone(&self.log);
        log.lock().unwrap().push_str(&seen);
        std::thread::spawn(move || {
            let mut line = String::new();
            // A killed process ends its stream in the middle of a line at worst.
            while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                log.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Running {
            child,
            address,
            runtime,
            network: Arc::new(OsNetwork::default()),
            token: Default::default(),
        }
    }
}

impl Running {
    pub(crate) fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.try_send(request).unwrap()
    }

    pub(crate) fn try_send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, idtrail_port::NetworkError> {
        self.runtime.block_on(self.network.exchange(request, Duration::from_secs(20)))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Response<Bytes> {
        self.send(Request::get(self.url(path)).body(Bytes::new()).unwrap())
    }

    pub(crate) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Bytes> {
        let mut request = Request::post(self.url(path)).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap())
    }

    pub(crate) fn post_event(&self, of: &Installation, event: &Value) -> (StatusCode, Value) {
        let response = self.post(EVENTS, &[("x-api-key", &of.key)], event.to_string());
        (response.status(), serde_json::from_slice(response.body()).unwrap())
    }

    pub(crate) fn token(&self, person: &(String, String)) -> String {
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", person.0, person.1);
        let request = Request::post(self.url("/oauth/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap();
        let answer: Value = serde_json::from_slice(self.send(request).body()).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) fn access(&self, of: &Installation, query: &Value) -> Response<Bytes> {
        let token = format!("Bearer {}", self.token.get_or_init(|| self.token(&of.person)));
        self.post(ACCESS, &[("x-api-key", &of.key), ("authorization", &token)], query.to_string())
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops in an orderly way.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed must not leave a server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in this process, with a clock that the test moves.
pub(crate) struct Local {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) base: String,
    pub(crate) store: CredentialStore,
    network: OsNetwork,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<Result<(), idtrail_server::serve::ServeError>>>,
}

impl Local {
    /// Starts it in September 2026.
    pub(crate) async fn start(installation: &Installation) -> Self {
        Self::start_on(installation, Arc::new(OsDisk)).await
    }

    /// Starts it on another disk.
    pub(crate) async fn start_on(installation: &Installation, disk: Arc<dyn idtrail_port::Disk>) -> Self {
        let settings = Settings::load(&OsDisk, &installation.config()).unwrap();
        let kek = Kek::from_file_bytes(&std::fs::read(installation.home().join("kek.key")).unwrap()).unwrap();
        let clock = Arc::new(SimClock::new(1_790_000_000_000));
        let ports = Ports { disk, clock: Arc::clone(&clock) as _, entropy: Arc::new(OsEntropy) };
        let server = Server::bind(ports, &settings, kek).await.unwrap();
        let base = format!("http://{}", server.address());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let store = CredentialStore::open(Arc::new(OsDisk), &settings.data_dir).unwrap();
        let network = OsNetwork::default();
        Self { clock, base, store, network, stop: Some(stop), running: Some(running) }
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.network.exchange(request, Duration::from_secs(20)).await.unwrap()
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut request = Request::builder()
            .method(method.to_ascii_uppercase().as_str())
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Bytes::new()).unwrap()).await
    }

    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.running.take().unwrap().await.unwrap().unwrap();
    }
}

pub(crate) fn query(customer: &str) -> Value {
    json!({ "customerIdHash": customer, "requestType": "ACCESS" })
}

/// Returns every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
