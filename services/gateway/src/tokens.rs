//! Access tokens and what their holders may do.

use std::path::Path;
use std::sync::Arc;

use proto_json::BlobHash;
use subtle::ConstantTimeEq;

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Send uploads, and nothing else.
    Uploader,
    /// Read, and listen to changes.
    Viewer,
    /// Both.
    Admin,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
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
        }
    }
}

/// What a route asks of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Upload,
    Read,
    ReadUpload,
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
}

impl Client {
    /// Whoever is on this machine, where there are no tokens.
    pub(crate) fn local() -> Self {
        Client { name: "local".into(), role: Role::Admin }
    }
}

/// Everybody who may come in.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<(Client, [u8; 32])>);

/// The file of tokens cannot be used. Lines are named by number: their content is secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error("the file of tokens {0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
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
        let shown = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|error| TokensError::Unreadable(shown.clone(), error))?;
        Tokens::parse(&text, &shown)
    }

    fn parse(text: &str, shown: &str) -> Result<Self, TokensError> {
        let mut tokens: Vec<(Client, [u8; 32])> = Vec::new();
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
            if tokens.iter().any(|(client, _)| *client.name == *name) {
                return Err(TokensError::Twice(shown.to_owned(), name.to_owned()));
            }
            tokens.push((Client { name: name.into(), role }, *digest.as_bytes()));
        }
        if tokens.is_empty() { Err(TokensError::Empty(shown.to_owned())) } else { Ok(Tokens(tokens)) }
    }

    /// Whose token this is. Takes the same time whichever it is, and whether it is one.
    pub(crate) fn holder(&self, token: &str) -> Option<&Client> {
        let digest = BlobHash::of(token.as_bytes());
        let mut found = None;
        for (client, known) in &self.0 {
            if bool::from(known.ct_eq(digest.as_bytes())) {
                found = Some(client);
            }
        }
        found
    }
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
    fn roles_are_kept_apart() {
        assert!(Role::Uploader.may(Need::Upload) && !Role::Uploader.may(Need::Read));
        assert!(Role::Viewer.may(Need::Read) && !Role::Viewer.may(Need::Upload));
        assert!(Role::Admin.may(Need::Read) && Role::Admin.may(Need::Upload));
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
