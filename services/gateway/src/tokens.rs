//! Access tokens and what their holders may do.
//!
//! The file of tokens holds hashes only. It is read again whenever it changes: a token that is taken out of it lets nobody
//! in any more, and ends the event streams that its holder has open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto_json::BlobHash;
use runtime::{Shutdown, WatchedFiles};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

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

/// Everybody who may come in.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<Client>);

/// The file of tokens cannot be used. Lines are named by number: their content is secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error("the file of tokens: {0}")]
    Unreadable(#[from] runtime::UnreadableFile),
    #[error("the file of tokens {0} is not text")]
    NotText(String),
    #[error(
        "line {1} of the file of tokens {0} must be `name role sha256`, role being uploader, viewer or admin"
    )]
    BadLine(String, usize),
    #[error("the file of tokens {0} names {1} twice")]
    Twice(String, String),
    #[error("the file of tokens {0} holds no token, so nobody could come in")]
    Empty(String),
}

impl Tokens {
    pub(crate) fn read(path: &Path) -> Result<Self, TokensError> {
        Ok(LiveTokens::read(path)?.0)
    }

    pub(crate) fn of(content: &[u8], path: &Path) -> Result<Self, TokensError> {
        let shown = path.display().to_string();
        match std::str::from_utf8(content) {
            Ok(text) => Tokens::parse(text, &shown),
            Err(_) => Err(TokensError::NotText(shown)),
        }
    }

    fn parse(text: &str, shown: &str) -> Result<Self, TokensError> {
        let mut tokens: Vec<Client> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let bad = || TokensError::BadLine(shown.to_owned(), index + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, role, digest] = *words else { return Err(bad()) };
            let role = match role {
                "uploader" => Role::Uploader,
                "viewer" => Role::Viewer,
                "admin" => Role::Admin,
                _ => return Err(bad()),
            };
            let digest: BlobHash = digest.to_ascii_lowercase().parse().map_err(|_| bad())?;
            if tokens.iter().any(|client| *client.name == *name) {
                return Err(TokensError::Twice(shown.to_owned(), name.to_owned()));
            }
            tokens.push(Client { name: name.into(), role, digest: *digest.as_bytes() });
        }
        if tokens.is_empty() { Err(TokensError::Empty(shown.to_owned())) } else { Ok(Tokens(tokens)) }
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

/// The tokens in force, which change with their file.
#[derive(Debug)]
pub(crate) struct LiveTokens {
    path: PathBuf,
    file: WatchedFiles,
    in_force: watch::Sender<Arc<Tokens>>,
}

impl LiveTokens {
    /// Reads the file for the first time.
    fn read(path: &Path) -> Result<(Tokens, WatchedFiles), TokensError> {
        let (file, contents) = WatchedFiles::read(vec![path.to_owned()])?;
        let tokens = Tokens::of(contents.first().map_or(&[][..], Vec::as_slice), path)?;
        Ok((tokens, file))
    }

    pub(crate) fn open(path: &Path) -> Result<Self, TokensError> {
        let (tokens, file) = LiveTokens::read(path)?;
        Ok(LiveTokens { path: path.to_owned(), file, in_force: watch::Sender::new(Arc::new(tokens)) })
    }

    pub(crate) fn in_force(&self) -> watch::Receiver<Arc<Tokens>> {
        self.in_force.subscribe()
    }

    /// Follows the file until the shutdown begins. A file that cannot be meant changes nothing.
    pub(crate) async fn follow(mut self, shutdown: Shutdown) {
        while let Some(contents) = shutdown.unless_begun(self.file.changed()).await {
            match Tokens::of(contents.first().map_or(&[][..], Vec::as_slice), &self.path) {
                Ok(tokens) => {
                    tracing::info!(target: "audit", tokens = tokens.0.len(), "the file of tokens has changed");
                    self.in_force.send_replace(Arc::new(tokens));
                }
                Err(error) => tracing::error!(%error, "the tokens of before stay in force"),
            }
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

    #[test]
    fn holders_are_found_by_their_token_alone() {
        let text = format!("# who may come in\n\nward-3 viewer {ABC} # the screen\n");
        let tokens = Tokens::parse(&text, "f").unwrap();
        let holder = tokens.holder("abc").unwrap();
        assert_eq!((&*holder.name, holder.role), ("ward-3", Role::Viewer));
        assert!(tokens.holder("abd").is_none());
        assert!(tokens.holder("").is_none());
        assert!(tokens.holder(ABC).is_none());
    }

    #[test]
    fn a_line_that_is_made_is_one_that_is_read() {
        let line = token_line("ward-3", Role::Uploader, "abc").unwrap();
        assert_eq!(line, format!("ward-3 uploader {ABC}"));
        let tokens = Tokens::parse(&line, "f").unwrap();
        let holder = tokens.holder("abc").unwrap().clone();
        assert!(tokens.still_know(&holder));
        let demoted = Tokens::parse(&format!("ward-3 viewer {ABC}"), "f").unwrap();
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
    fn a_file_that_cannot_be_meant_is_refused_without_showing_it() {
        for text in
            ["", "# nothing", "a viewer", "a root 00", &format!("a viewer {ABC} b"), "a viewer secret"]
        {
            let error = Tokens::parse(text, "tokens.txt").unwrap_err().to_string();
            assert!(error.contains("tokens.txt") && !error.contains("secret"), "{error}");
        }
        let twice = format!("a viewer {ABC}\na admin {ABC}");
        assert!(matches!(Tokens::parse(&twice, "f"), Err(TokensError::Twice(..))));
    }
}
