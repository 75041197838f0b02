//! Controls the containers with the commands of an operator.

use std::process::Stdio;
use std::time::{Duration, Instant};

use client::{Gateway, NatsCredentials, NatsSettings, Settings, Token};
use tokio::process::Command;

/// The environment that `tests/stack/run` prepares.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    /// `docker compose` with its files.
    compose: String,
    /// Address of the reverse proxy.
    pub(crate) url: String,
    nats: String,
}

/// Tokens that `init` created, and the password of the monitor apps at the broker.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    pub(crate) uploader: String,
    pub(crate) viewer: String,
    pub(crate) admin: String,
    pub(crate) nats_password: String,
}

impl Stack {
    pub(crate) fn from_environment() -> Self {
        let setting = |name: &str| {
            std::env::var(name)
                .unwrap_or_else(|_| panic!("{name} is not set: start this with tests/stack/run"))
        };
        Stack {
            compose: setting("COMPOSE"),
            url: setting("BEDSIDE_STACK_URL"),
            nats: setting("BEDSIDE_STACK_NATS"),
        }
    }

    /// Runs Compose and returns its output.
    pub(crate) async fn compose(&self, args: &str) -> String {
        run(&format!("{} {args}", self.compose), &[]).await
    }

    /// Replaces all ECG workers by `count` new ones with this share of a core each.
    pub(crate) async fn limited_workers(&self, count: usize, cores: &str) {
        let line = format!("{} up -d --no-deps --scale ecg-worker={count} ecg-worker", self.compose);
        run(&line, &[("WORKER_CPUS", cores)]).await;
    }

    /// Runs a script of `deploy/`.
    pub(crate) async fn script(&self, line: &str) -> String {
        run(&format!("deploy/{line}"), &[("COMPOSE", &self.compose)]).await
    }

    /// Starts a script of `deploy/`, waits until `reached`, and sends a signal to its shell only. Returns when everything that the
    /// script started has ended.
    pub(crate) async fn interrupt(&self, line: &str, signal: &str, reached: impl Fn() -> bool) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // A shell cannot trap a signal that was ignored when it started, such as that of a job in the background.
        let mut script = Command::new("env")
            .args(["--default-signal", &format!("deploy/{}", words[0])])
            .args(&words[1..])
            .env("COMPOSE", &self.compose)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = script.id().unwrap();
        testkit::within("the script has reached the point of interruption", || async {
            reached().then_some(())
        })
        .await;
        run(&format!("kill -s {signal} {pid}"), &[]).await;
        let status = script.wait().await.unwrap();
        assert!(!status.success(), "{line} was interrupted by {signal} and reports success");
        testkit::within("everything that the script started has ended", || async {
            // Compose, which goes on after its shell was killed, may not have started the container yet.
            let starts = run("ps -eo args", &[]).await.contains("--no-deps backup");
            let filters = "--filter label=com.docker.compose.service=backup";
            let is_running = !run(&format!("docker ps --quiet {filters}"), &[]).await.trim().is_empty();
            (!starts && !is_running).then_some(())
        })
        .await;
    }

    /// Starts all containers and waits until the gateway answers.
    pub(crate) async fn up(&self) {
        let started = Instant::now();
        self.compose("up -d").await;
        let gateway = Gateway::new(&Settings::new(&self.url)).unwrap();
        testkit::within("the gateway answers", || async { gateway.check(Duration::from_secs(2)).await.ok() })
            .await;
        println!("   up in {:.0} s", started.elapsed().as_secs_f64());
    }

    /// Creates a token of each role. Each is printed only now.
    pub(crate) async fn create_tokens(&self) -> Secrets {
        Secrets {
            uploader: self.init("bed bed-1", "BEDSIDE_TOKEN_BED_1").await,
            viewer: self.init("station station-1", "BEDSIDE_TOKEN_STATION_1").await,
            admin: self.init("admin operator", "BEDSIDE_TOKEN_OPERATOR").await,
            nats_password: self.init("logins", "BEDSIDE_NATS_PASSWORD").await,
        }
    }

    /// Runs the service `init` and returns the value of a line `name=value` of its output.
    pub(crate) async fn init(&self, args: &str, name: &str) -> String {
        let printed = self.compose(&format!("run --rm -T init {args}")).await;
        let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("init {args} prints no {name}: {printed}")).trim().to_owned()
    }

    /// Names of the files below a path in a running container.
    pub(crate) async fn files(&self, service: &str, path: &str) -> Vec<String> {
        let listed = self.compose(&format!("exec -T {service} find {path} -type f")).await;
        listed.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// A client with this token.
    pub(crate) fn gateway(&self, token: &str) -> Gateway {
        let token = Token::new(token).unwrap();
        Gateway::new(&Settings::new(&self.url).with_token(Some(token))).unwrap()
    }

    /// Settings of a monitor app for the broker.
    pub(crate) fn nats(&self, password: &str) -> NatsSettings {
        let login = NatsCredentials::Password { user: "monitor".to_owned(), password: password.to_owned() };
        NatsSettings { credentials: Some(login), ..NatsSettings::new(&self.nats) }
    }

    /// Number of running containers of a service.
    pub(crate) async fn running(&self, service: &str) -> usize {
        let ids = self.compose(&format!("ps -q {service}")).await;
        let mut running = 0;
        for id in ids.split_whitespace() {
            let state = run(&format!("docker inspect --format {{{{.State.Running}}}} {id}"), &[]).await;
            running += usize::from(state.trim() == "true");
        }
        running
    }
}

/// Runs a command and returns its output. Panics with the output if it fails.
async fn run(line: &str, environment: &[(&str, &str)]) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
