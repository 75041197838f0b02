//! Access tokens and what their holders may do.
//!
//! The token file holds only hashes. It is read again whenever it changes. A token that was removed from it is refused, and
//! the event streams that its holder has open end.
//!
//! Revocation fails closed: an empty or missing file means that there are no tokens, and a line that cannot be read gives
//! nobody access. The other lines stay valid.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto_json::BlobHash;
use runtime::{Shutdown, UnreadableFile, WatchedFiles};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::auth::audit::AuditLog;

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Send uploads, and nothing else.
    Uploader,
    /// Read, and listen to changes.
    Viewer,
    /// Both, and deal with dead letters.
    Admin,
}

impl Role {
    /// As in the file of tokens.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Uploader => "uploader",
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        }
    }

    pub(crate) fn may(self, need: Need) -> bool {
        match need {
            Need::Upload => matches!(self, Role::Uploader | Role::Admin),
            Need::Read => matches!(self, Role::Viewer | Role::Admin),
            // What became of an upload concerns whoever sent it, too.
            Need::ReadUpload => true,
            Need::Operate => self == Role::Admin,
        }
    }
}

/// What a route asks of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Upload,
    Read,
    ReadUpload,
    Operate,
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// SHA-256 of the token.
    digest: [u8; 32],
}

impl Client {
    /// Whoever is on this machine, where there are no tokens.
    pub(crate) fn local() -> Self {
        Client { name: "local".into(), role: Role::Admin, digest: [0; 32] }
    }
}

/// All valid tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<Client>);

/// A line of the token file that is skipped. It is named by its number: its content is secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SkippedLine {
    #[error("line {0} is not `name role sha256` with the role uploader, viewer or admin")]
    Malformed(usize),
    #[error("line {0} has the name or the token of line {1}")]
    Repeated(usize, usize),
}

impl Tokens {
    /// Reads the content of a token file, and lists the lines that are skipped.
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

    /// Reads the content of a token file, and logs what an operator must know about it.
    fn parse_and_log(content: &[u8], path: &Path) -> Self {
        let (tokens, skipped) = Tokens::parse(content);
        for line in skipped {
            tracing::warn!(file = %path.display(), "a line of the token file is skipped: {line}");
        }
        if tokens.0.is_empty() {
            tracing::warn!(file = %path.display(), "the token file holds no token: every request that needs one is refused");
        }
        tokens
    }

    /// A file that holds these tokens and nothing else.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn lines(&self) -> String {
        let line = |client: &Client| {
            format!("{} {} {}\n", client.name, client.role.name(), BlobHash::from_bytes(client.digest))
        };
        self.0.iter().map(line).collect()
    }

    /// Whose token this is. Takes the same time whichever it is, and whether it is one.
    pub(crate) fn holder(&self, token: &str) -> Option<&Client> {
        let digest = BlobHash::of(token.as_bytes());
        let mut found = None;
        for client in &self.0 {
            if bool::from(client.digest.ct_eq(digest.as_bytes())) {
                found = Some(client);
            }
        }
        found
    }

    /// Whether the token with which this client came in is still one, of the same name and role.
    pub(crate) fn still_know(&self, client: &Client) -> bool {
        self.0.iter().any(|known| {
            bool::from(known.digest.ct_eq(&client.digest))
                && known.role == client.role
                && known.name == client.name
        })
    }
}

/// The audit line of a changed token file.
#[derive(Serialize)]
struct TokensChanged {
    message: &'static str,
    /// Number of tokens that are valid now.
    tokens: usize,
}

struct Malformed;

/// The holder that a line names; `None` for a blank line or a comment.
fn parse_line(line: &[u8]) -> Result<Option<Client>, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.is_empty() {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, role, digest] = *words else { return Err(Malformed) };
    let role = match role {
        "uploader" => Role::Uploader,
        "viewer" => Role::Viewer,
        "admin" => Role::Admin,
        _ => return Err(Malformed),
    };
    let digest: BlobHash = digest.to_ascii_lowercase().parse().map_err(|_| Malformed)?;
    Ok(Some(Client { name: name.into(), role, digest: *digest.as_bytes() }))
}

/// The valid tokens, which change with their file.
#[derive(Debug)]
pub(crate) struct LiveTokens {
    path: PathBuf,
    file: WatchedFiles,
    in_force: watch::Sender<Arc<Tokens>>,
}

impl LiveTokens {
    /// Reads the file for the first time. An empty one is accepted: a token can be added while the gateway runs.
    pub(crate) fn open(path: &Path) -> Result<Self, UnreadableFile> {
        let (file, contents) = WatchedFiles::read(vec![path.to_owned()])?;
        let tokens = Tokens::parse_and_log(&contents.concat(), path);
        Ok(LiveTokens { path: path.to_owned(), file, in_force: watch::Sender::new(Arc::new(tokens)) })
    }

    pub(crate) fn in_force(&self) -> watch::Receiver<Arc<Tokens>> {
        self.in_force.subscribe()
    }

    /// Follows the file until the shutdown begins. While it cannot be read, there are no tokens.
    pub(crate) async fn follow(mut self, shutdown: Shutdown, audit: Arc<AuditLog>) {
        while let Some(changed) = shutdown.unless_begun(self.file.changed()).await {
            let tokens = match changed {
                Ok(contents) => Tokens::parse_and_log(&contents.concat(), &self.path),
                Err(error) => {
                    tracing::error!(%error, "there is no token file any more: every request that needs a token is refused");
                    Tokens::default()
                }
            };
            audit.write(&TokensChanged { message: "tokens changed", tokens: tokens.0.len() });
            self.in_force.send_replace(Arc::new(tokens));
        }
    }
}

/// The line of the file of tokens for a token of this holder.
///
/// # Errors
/// When the name cannot stand in such a line.
pub fn token_line(name: &str, role: Role, token: &str) -> Result<String, String> {
    if name.is_empty()
        || name.len() > 64
        || name.contains('#')
        || !name.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err("a name is 1 to 64 letters, digits and signs without blanks and without #".to_owned());
    }
    Ok(format!("{name} {} {}", role.name(), BlobHash::of(token.as_bytes())))
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
    fn holder_is_found_by_the_token_only() {
        let tokens = tokens(&format!("# holders\n\nward-3 viewer {ABC} # the screen\n"));
        let holder = tokens.holder("abc").unwrap();
        assert_eq!((&*holder.name, holder.role), ("ward-3", Role::Viewer));
        assert!(tokens.holder("abd").is_none());
        assert!(tokens.holder("").is_none());
        assert!(tokens.holder(ABC).is_none());
    }

    #[test]
    fn written_token_line_can_be_read() {
        let line = token_line("ward-3", Role::Uploader, "abc").unwrap();
        assert_eq!(line, format!("ward-3 uploader {ABC}"));
        let known = tokens(&line);
        let holder = known.holder("abc").unwrap().clone();
        assert!(known.still_know(&holder));
        let demoted = tokens(&format!("ward-3 viewer {ABC}"));
        assert!(!demoted.still_know(&holder));
        for name in ["", "a b", "#a", "a#", "é"] {
            assert!(token_line(name, Role::Viewer, "abc").is_err(), "{name}");
        }
    }

    #[test]
    fn roles_are_kept_apart() {
        assert!(Role::Uploader.may(Need::Upload) && !Role::Uploader.may(Need::Read));
        assert!(Role::Viewer.may(Need::Read) && !Role::Viewer.may(Need::Upload));
        assert!(
            Role::Admin.may(Need::Read) && Role::Admin.may(Need::Upload) && Role::Admin.may(Need::Operate)
        );
        assert!(!Role::Uploader.may(Need::Operate) && !Role::Viewer.may(Need::Operate));
    }

    #[test]
    fn only_malformed_lines_are_skipped_and_their_content_is_not_shown() {
        let other = BlobHash::of(b"other");
        let text = format!(
            "a viewer secret\na viewer\n\u{1}\u{1} viewer secret\na root {ABC}\na viewer {ABC} secret\n\
             good viewer {ABC}\r\ngood admin {other}\nagain admin {ABC}\nlast admin {other}"
        );
        // The third line is not UTF-8.
        let text: Vec<u8> = text.bytes().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
        let (tokens, skipped) = Tokens::parse(&text);
        assert_eq!(tokens.0.len(), 2);
        assert_eq!(tokens.holder("abc").unwrap().role, Role::Viewer);
        assert_eq!(&*tokens.holder("other").unwrap().name, "last");
        let malformed = (1..=5).map(SkippedLine::Malformed);
        let repeated = [SkippedLine::Repeated(7, 6), SkippedLine::Repeated(8, 6)];
        assert_eq!(skipped, malformed.chain(repeated).collect::<Vec<_>>());
        assert!(skipped.iter().all(|line| !line.to_string().contains("secret")));
    }

    #[test]
    fn empty_file_holds_no_token() {
        for text in ["", "\n\n", "# nobody\n"] {
            assert!(tokens(text).0.is_empty());
        }
    }
}
