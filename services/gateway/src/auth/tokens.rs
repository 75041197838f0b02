//! Access tokens and roles.
//!
//! The token file contains only hashes and is reloaded when it changes. If a token is removed, its requests
//! are rejected and its open event streams end.
//!
//! Revocation fails closed: an empty or missing file contains no tokens, and an invalid line is skipped. The
//! other lines stay valid.
//!
//! A token can have an expiry time. From then on it is rejected, and open event streams of its client end. It can be limited to
//! wards, and bound to a bed: then it writes only to the patient who is admitted to that bed.
//!
//! Tokens are opaque random strings; no JWT library is used, because revocation must take effect immediately.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto_json::users::StoredSession;
use proto_json::{BedId, BlobHash, Timestamp, WardId};
use runtime::{Shutdown, UnreadableFile, WatchedFiles};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::auth::audit::AuditLog;
use crate::sessions::OpenSession;

/// The role of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// May only upload.
    Uploader,
    /// May only read and subscribe to events.
    Viewer,
    /// May only send live waveforms.
    Device,
    /// May read and upload, act on alarms, admit, transfer, discharge and correct.
    Nurse,
    /// May do the same as a nurse, and change the limits of a ward.
    Physician,
    /// May see the state of the system and manage dead letters, without access to patients.
    Technician,
    /// May only read the audit.
    Auditor,
    /// May do all of this, and administer wards, users and retention.
    Admin,
}

impl Role {
    /// Returns the name of the role in the token file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Uploader => "uploader",
            Role::Viewer => "viewer",
            Role::Device => "device",
            Role::Nurse => "nurse",
            Role::Physician => "physician",
            Role::Technician => "technician",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }

    const ALL: [Role; 8] = [
        Role::Uploader,
        Role::Viewer,
        Role::Device,
        Role::Nurse,
        Role::Physician,
        Role::Technician,
        Role::Auditor,
        Role::Admin,
    ];

    /// Returns the role with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    pub(crate) fn may(self, permission: Permission) -> bool {
        let clinical = matches!(self, Role::Nurse | Role::Physician | Role::Admin);
        match permission {
            Permission::Upload => clinical || self == Role::Uploader,
            Permission::Read => clinical || self == Role::Viewer,
            // Uploaders may read the status of their own uploads.
            Permission::ReadUpload => clinical || matches!(self, Role::Uploader | Role::Viewer),
            Permission::Stream => matches!(self, Role::Device | Role::Admin),
            Permission::Operate => matches!(self, Role::Technician | Role::Admin),
            Permission::Care => clinical,
            Permission::WardLimits => matches!(self, Role::Physician | Role::Admin),
            Permission::Administer => self == Role::Admin,
            Permission::Audit => matches!(self, Role::Auditor | Role::Admin),
            Permission::Session => true,
        }
    }
}

/// The permission that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Upload,
    Read,
    ReadUpload,
    Stream,
    /// Dead letters and metrics.
    Operate,
    /// Act on alarms, set limits of a patient, admit, transfer, discharge, correct.
    Care,
    /// Change the limits of a ward or of the site.
    WardLimits,
    /// Wards, users, erasure, retention.
    Administer,
    /// Read the audit.
    Audit,
    /// What every client may do, for itself.
    Session,
}

impl Permission {
    /// The roles that have it, for messages.
    pub(crate) fn roles(self) -> &'static str {
        match self {
            Permission::Upload => "uploader, nurse, physician or admin",
            Permission::Read => "viewer, nurse, physician or admin",
            Permission::ReadUpload => "uploader, viewer, nurse, physician or admin",
            Permission::Stream => "device or admin",
            Permission::Operate => "technician or admin",
            Permission::Care => "nurse, physician or admin",
            Permission::WardLimits => "physician or admin",
            Permission::Administer => "admin",
            Permission::Audit => "auditor or admin",
            Permission::Session => "any role",
        }
    }
}

/// An authenticated client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// The wards whose patients the client may access; `None` for all.
    pub(crate) wards: Option<Arc<[WardId]>>,
    /// The client writes only to the patient in this bed.
    pub(crate) bed: Option<BedId>,
    /// The session that the client has logged in to.
    pub(crate) session: Option<Arc<OpenSession>>,
    /// SHA-256 of its token; `None` for a person, and if no tokens are configured.
    digest: Option<[u8; 32]>,
    /// The token is rejected from this time on.
    expires: Option<Timestamp>,
}

impl Client {
    /// The client of all requests if no tokens are configured.
    pub(crate) fn local() -> Self {
        Client {
            name: "local".into(),
            role: Role::Admin,
            wards: None,
            bed: None,
            session: None,
            digest: None,
            expires: None,
        }
    }

    /// The client that has logged in to a session.
    pub(crate) fn of_session(stored: &StoredSession, role: Role, session: Arc<OpenSession>) -> Self {
        Client {
            name: stored.name.as_str().into(),
            role,
            wards: stored.wards.as_deref().map(Arc::from),
            bed: stored.bed,
            session: Some(session),
            digest: stored.token.map(|token| *token.as_bytes()),
            expires: stored.token.map(|_| stored.expires_at),
        }
    }

    /// SHA-256 of its token.
    pub(crate) fn token(&self) -> Option<BlobHash> {
        self.digest.map(BlobHash::from_bytes)
    }

    /// When its token expires.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Whether the client may access only some patients, or write only to some.
    pub(crate) fn is_limited(&self) -> bool {
        self.wards.is_some() || self.bed.is_some()
    }

    /// Resolves when the session of the client has ended; never without a session.
    pub(crate) async fn session_ended(&self) {
        match &self.session {
            Some(session) => session.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// All valid tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<Client>);

/// A skipped line of the token file. It is identified by its number, because its content is secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SkippedLine {
    #[error(
        "line {0} is not `name role sha256 [expiry] [ward=id …] [bed=id]` with the role uploader, viewer, device, nurse, physician, technician, auditor or admin"
    )]
    Malformed(usize),
    #[error("line {0} has the name or the token of line {1}")]
    Repeated(usize, usize),
}

impl Tokens {
    /// Parses a token file. Returns the valid tokens and the skipped lines.
    pub(crate) fn parse(content: &[u8]) -> (Self, Vec<SkippedLine>) {
        let mut tokens: Vec<Client> = Vec::new();
        let mut numbers: Vec<usize> = Vec::new();
        let mut skipped = Vec::new();
        for (number, line) in (1..).zip(content.split(|byte| *byte == b'\n')) {
            match parse_line(line) {
                Ok(None) => {}
                Err(Malformed) => skipped.push(SkippedLine::Malformed(number)),
                Ok(Some(client)) => {
                    let same = |known: &Client| known.name == client.name || known.digest == client.digest;
                    match tokens.iter().position(same) {
                        Some(first) => {
                            let first = numbers.get(first).copied().unwrap_or_default();
                            skipped.push(SkippedLine::Repeated(number, first));
                        }
                        None => {
                            tokens.push(client);
                            numbers.push(number);
                        }
                    }
                }
            }
        }
        (Tokens(tokens), skipped)
    }

    /// Parses a token file and logs skipped lines and an empty file.
    fn parse_and_log(content: &[u8], path: &Path) -> Self {
        let (tokens, skipped) = Tokens::parse(content);
        for line in skipped {
            tracing::warn!(file = %path.display(), "a line of the token file was skipped: {line}");
        }
        if tokens.0.is_empty() {
            tracing::warn!(file = %path.display(), "the token file contains no token");
        }
        tokens
    }

    /// Formats the tokens as a token file.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn lines(&self) -> String {
        let line = |client: &Client| {
            let hash = client.token().unwrap_or(BlobHash::from_bytes([0; 32]));
            let rest = suffix(client.expires, client.wards.as_deref(), client.bed);
            format!("{} {} {hash}{rest}\n", client.name, client.role.name())
        };
        self.0.iter().map(line).collect()
    }

    /// Returns the client of a token. The time does not depend on whether the token is valid.
    pub(crate) fn client(&self, token: &str) -> Option<&Client> {
        let digest = BlobHash::of(token.as_bytes());
        let mut found = None;
        for client in &self.0 {
            if client.has_token(digest.as_bytes()) {
                found = Some(client);
            }
        }
        found.filter(|client| client.is_valid(Timestamp::now()))
    }

    /// Returns whether the client's token is still valid for the same name, role, wards and bed; true for a person.
    pub(crate) fn is_valid(&self, client: &Client) -> bool {
        let now = Timestamp::now();
        let Some(digest) = client.digest else { return client.session.is_some() };
        self.0.iter().any(|known| {
            known.has_token(&digest)
                && known.is_valid(now)
                && known.role == client.role
                && known.name == client.name
                && known.wards == client.wards
                && known.bed == client.bed
        })
    }

    /// Returns whether a token has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|known| &*known.name == name)
    }
}

impl Tokens {
    /// Returns the next time after `now` at which a token expires.
    fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.iter().filter_map(|client| client.expires).filter(|at| *at > now).min()
    }
}

impl Client {
    fn has_token(&self, digest: &[u8; 32]) -> bool {
        self.digest.is_some_and(|known| bool::from(known.ct_eq(digest)))
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

/// The audit line of a changed token file.
#[derive(Serialize)]
struct TokensChanged {
    message: &'static str,
    /// Number of valid tokens.
    tokens: usize,
}

struct Malformed;

/// Parses a line. Returns `None` for a blank line or a comment.
fn parse_line(line: &[u8]) -> Result<Option<Client>, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.is_empty() {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, role, digest, ref further @ ..] = *words else { return Err(Malformed) };
    let (mut expires, mut wards, mut bed) = (None, None::<Vec<WardId>>, None);
    for (position, word) in further.iter().enumerate() {
        match word.split_once('=') {
            Some(("ward", ward)) => {
                wards.get_or_insert_default().push(ward.parse().map_err(|_| Malformed)?);
            }
            // Two beds would mean less than one.
            Some(("bed", id)) if bed.is_none() => bed = Some(id.parse().map_err(|_| Malformed)?),
            None if position == 0 => expires = Some(word.parse().map_err(|_| Malformed)?),
            _ => return Err(Malformed),
        }
    }
    let role = Role::of_name(role).ok_or(Malformed)?;
    let digest: BlobHash = digest.to_ascii_lowercase().parse().map_err(|_| Malformed)?;
    Ok(Some(Client {
        name: name.into(),
        role,
        wards: wards.map(Arc::from),
        bed,
        session: None,
        digest: Some(*digest.as_bytes()),
        expires,
    }))
}

/// The optional words of a line.
fn suffix(expires: Option<Timestamp>, wards: Option<&[WardId]>, bed: Option<BedId>) -> String {
    let expiry = expires.map(|at| format!(" {at}")).unwrap_or_default();
    let wards: String = wards.unwrap_or_default().iter().map(|ward| format!(" ward={ward}")).collect();
    let bed = bed.map(|bed| format!(" bed={bed}")).unwrap_or_default();
    format!("{expiry}{wards}{bed}")
}

/// The valid tokens, updated when their file changes.
#[derive(Debug)]
pub(crate) struct LiveTokens {
    path: PathBuf,
    file: WatchedFiles,
    current: watch::Sender<Arc<Tokens>>,
}

impl LiveTokens {
    /// Reads the file. It may be empty, because tokens can be added while the gateway runs.
    pub(crate) fn open(path: &Path) -> Result<Self, UnreadableFile> {
        let (file, contents) = WatchedFiles::read(vec![path.to_owned()])?;
        let tokens = Tokens::parse_and_log(&contents.concat(), path);
        Ok(LiveTokens { path: path.to_owned(), file, current: watch::Sender::new(Arc::new(tokens)) })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Tokens>> {
        self.current.subscribe()
    }

    /// Reloads the file when it changes, until the shutdown begins. No token is valid while the file cannot
    /// be read.
    pub(crate) async fn follow(mut self, shutdown: Shutdown, audit: Arc<AuditLog>) {
        loop {
            let next_expiry = self.current.borrow().next_expiry(Timestamp::now());
            let changed = tokio::select! {
                changed = shutdown.unless_begun(self.file.changed()) => changed,
                () = reached(next_expiry) => {
                    // Ends the event streams of clients whose tokens have expired.
                    self.current.send_modify(|_| {});
                    continue;
                }
            };
            let Some(changed) = changed else { return };
            let tokens = match changed {
                Ok(contents) => Tokens::parse_and_log(&contents.concat(), &self.path),
                Err(error) => {
                    tracing::error!(%error, "the token file cannot be read; no token is valid");
                    Tokens::default()
                }
            };
            audit.write(&TokensChanged { message: "tokens changed", tokens: tokens.0.len() });
            self.current.send_replace(Arc::new(tokens));
        }
    }
}

/// Waits until a time, or forever without one. Checks the clock every minute, because it can be corrected meanwhile.
async fn reached(time: Option<Timestamp>) {
    const LONGEST_WAIT: Duration = Duration::from_secs(60);
    let Some(time) = time else { return std::future::pending().await };
    loop {
        let left = u64::try_from(time.millis_since(Timestamp::now())).unwrap_or(0);
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left).min(LONGEST_WAIT)).await;
    }
}

/// A line of a token file, without the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// Name of the client.
    pub name: String,
    /// Permissions of the client.
    pub role: Role,
    /// What limits the token.
    pub limits: TokenLimits,
}

/// What limits a token besides its role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenLimits {
    /// The token is rejected from this time on.
    pub expires: Option<Timestamp>,
    /// The wards whose patients are accessible; empty for all.
    pub wards: Vec<WardId>,
    /// The token writes only to the patient in this bed.
    pub bed: Option<BedId>,
}

impl TokenEntry {
    /// Parses a line. Returns `None` for an empty line, a comment, and a line that the gateway skips.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let client = parse_line(line.as_bytes()).ok()??;
        let wards = client.wards.as_deref().unwrap_or_default().to_vec();
        let limits = TokenLimits { expires: client.expires, wards, bed: client.bed };
        Some(TokenEntry { name: client.name.to_string(), role: client.role, limits })
    }
}

/// Returns the line of the token file for a token.
///
/// # Errors
/// If the name contains characters that are not allowed in the file.
pub fn token_line(name: &str, role: Role, token: &str, limits: &TokenLimits) -> Result<String, String> {
    if name.is_empty()
        || name.len() > 64
        || name.contains('#')
        || !name.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err("a name is 1 to 64 letters, digits and signs without blanks and without #".to_owned());
    }
    let wards = (!limits.wards.is_empty()).then_some(limits.wards.as_slice());
    let rest = suffix(limits.expires, wards, limits.bed);
    Ok(format!("{name} {} {}{rest}", role.name(), BlobHash::of(token.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn tokens(text: &str) -> Tokens {
        let (tokens, skipped) = Tokens::parse(text.as_bytes());
        assert_eq!(skipped, []);
        tokens
    }

    #[test]
    fn client_is_found_only_by_its_token() {
        let tokens = tokens(&format!("# clients\n\nward-3 viewer {ABC} # the screen\n"));
        let client = tokens.client("abc").unwrap();
        assert_eq!((&*client.name, client.role), ("ward-3", Role::Viewer));
        assert!(tokens.client("abd").is_none());
        assert!(tokens.client("").is_none());
        assert!(tokens.client(ABC).is_none());
    }

    #[test]
    fn token_line_round_trips_and_detects_a_changed_role() {
        let line = token_line("ward-3", Role::Uploader, "abc", &TokenLimits::default()).unwrap();
        assert_eq!(line, format!("ward-3 uploader {ABC}"));
        let known = tokens(&line);
        let client = known.client("abc").unwrap().clone();
        assert!(known.is_valid(&client));
        let demoted = tokens(&format!("ward-3 viewer {ABC}"));
        assert!(!demoted.is_valid(&client));
        for name in ["", "a b", "#a", "a#", "é"] {
            assert!(token_line(name, Role::Viewer, "abc", &TokenLimits::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn each_role_has_only_its_permissions() {
        assert!(Role::Uploader.may(Permission::Upload) && !Role::Uploader.may(Permission::Read));
        assert!(Role::Viewer.may(Permission::Read) && !Role::Viewer.may(Permission::Upload));
        assert!(
            Role::Admin.may(Permission::Read)
                && Role::Admin.may(Permission::Upload)
                && Role::Admin.may(Permission::Operate)
        );
        assert!(Role::Device.may(Permission::Stream) && Role::Admin.may(Permission::Stream));
        for permission in [Permission::Upload, Permission::Read, Permission::ReadUpload, Permission::Operate]
        {
            assert!(!Role::Device.may(permission), "{permission:?}");
        }
        assert!(!Role::Uploader.may(Permission::Stream) && !Role::Viewer.may(Permission::Stream));
        assert!(!Role::Uploader.may(Permission::Operate) && !Role::Viewer.may(Permission::Operate));
    }

    #[test]
    fn malformed_lines_are_skipped_without_logging_their_content() {
        let other = BlobHash::of(b"other");
        let text = format!(
            "a viewer secret\na viewer\n\u{1}\u{1} viewer secret\na root {ABC}\na viewer {ABC} secret\n\
             good viewer {ABC}\r\ngood admin {other}\nagain admin {ABC}\nlast admin {other}"
        );
        // The third line is not UTF-8.
        let text: Vec<u8> = text.bytes().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
        let (tokens, skipped) = Tokens::parse(&text);
        assert_eq!(tokens.0.len(), 2);
        assert_eq!(tokens.client("abc").unwrap().role, Role::Viewer);
        assert_eq!(&*tokens.client("other").unwrap().name, "last");
        let malformed = (1..=5).map(SkippedLine::Malformed);
        let repeated = [SkippedLine::Repeated(7, 6), SkippedLine::Repeated(8, 6)];
        assert_eq!(skipped, malformed.chain(repeated).collect::<Vec<_>>());
        assert!(skipped.iter().all(|line| !line.to_string().contains("secret")));
    }

    #[test]
    fn expired_token_is_rejected() {
        let now = Timestamp::now();
        let line = |expires| {
            let limits = TokenLimits { expires: Some(expires), ..TokenLimits::default() };
            token_line("ward-3", Role::Viewer, "abc", &limits).unwrap()
        };
        let valid = tokens(&line(now.plus_millis(60_000)));
        let client = valid.client("abc").unwrap().clone();
        assert!(valid.is_valid(&client));
        assert_eq!(valid.next_expiry(now), Some(now.plus_millis(60_000)));
        let expired = tokens(&line(now));
        assert!(expired.client("abc").is_none() && !expired.is_valid(&client));
        assert_eq!(expired.next_expiry(now), None);
        assert_eq!(TokenEntry::parse(&line(now)).unwrap().limits.expires, Some(now));
        assert_eq!(Tokens::parse(format!("a viewer {ABC} soon").as_bytes()).1, [SkippedLine::Malformed(1)]);
    }

    #[test]
    fn wards_and_bed_of_a_token_round_trip_and_a_change_of_them_revokes_it() {
        let ward = |number: u128| WardId::from_uuid(uuid::Uuid::from_u128(number));
        let bed = BedId::from_uuid(uuid::Uuid::from_u128(9));
        let expires = Some(Timestamp::now().plus_millis(60_000));
        let limits = TokenLimits { expires, wards: vec![ward(1), ward(2)], bed: Some(bed) };
        let line = token_line("bed-3", Role::Device, "abc", &limits).unwrap();
        assert_eq!(TokenEntry::parse(&line).unwrap().limits, limits);
        let known = tokens(&line);
        assert_eq!(known.lines(), format!("{line}\n"));
        let client = known.client("abc").unwrap().clone();
        assert_eq!((client.wards.as_deref(), client.bed), (Some([ward(1), ward(2)].as_slice()), Some(bed)));
        assert!(known.is_valid(&client));
        for other in
            [line.replace(&format!(" ward={}", ward(2)), ""), line.replace(&format!(" bed={bed}"), "")]
        {
            assert!(!tokens(&other).is_valid(&client), "{other}");
        }
        for wrong in ["ward=", "ward=3", "bed=x", "beds=1", "ward", "2099-01-01T00:00:00Z x"] {
            let line = format!("a viewer {ABC} {wrong}");
            assert_eq!(Tokens::parse(line.as_bytes()).1, [SkippedLine::Malformed(1)], "{wrong}");
        }
        let twice = format!("a viewer {ABC} bed={bed} bed={bed}");
        assert_eq!(Tokens::parse(twice.as_bytes()).1, [SkippedLine::Malformed(1)]);
    }

    #[test]
    fn file_without_lines_contains_no_token() {
        for text in ["", "\n\n", "# nobody\n"] {
            assert!(tokens(text).0.is_empty());
        }
    }
}
