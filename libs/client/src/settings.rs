//! Settings of a gateway client.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use crate::ClientError;

/// Address of a gateway on this machine, with its default port.
pub const DEFAULT_GATEWAY: &str = "http://127.0.0.1:5011";

/// Settings of a gateway client.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the gateway, such as `http://127.0.0.1:5011`. `http://` can be omitted.
    pub base_url: String,
    /// Access token, if the gateway requires one.
    pub token: Option<Token>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Certificates (PEM) to trust in addition to those of the operating system.
    pub extra_certificates: Option<Vec<u8>>,
}

impl Settings {
    /// Settings for a gateway at this address, without an access token.
    #[must_use]
    pub fn new(base_url: impl Into<String>) -> Self {
        Settings {
            base_url: base_url.into(),
            token: None,
            timeouts: Timeouts::default(),
            extra_certificates: None,
        }
    }

    /// These settings with an access token.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn url(&self) -> Result<Url, ClientError> {
        let text = self.base_url.trim();
        let wrong = |what: &str| ClientError::Settings(format!("the gateway address {text:?} {what}"));
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url =
            Url::parse(&full).map_err(|_| wrong("is not an address such as http://127.0.0.1:5011"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must start with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not hold a user name or password: set an access token instead"));
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(url)
    }
}

/// An access token. `Debug` does not reveal it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token with this text.
    ///
    /// # Errors
    /// [`ClientError::Settings`], if it is empty or has characters other than printable ASCII without spaces.
    pub fn new(text: impl Into<String>) -> Result<Self, ClientError> {
        let text = text.into();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientError::Settings(
                "the access token must consist of printable ASCII characters without spaces".to_owned(),
            ));
        }
        Ok(Token(text))
    }

    /// Returns the text of the token. Do not show or log it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Token {
    type Err = ClientError;
    fn from_str(text: &str) -> Result<Self, ClientError> {
        Token::new(text.trim())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Time limits of calls.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// To receive a short answer completely: a page, a record.
    pub answer: Duration,
    /// To send or receive the next bytes of a file.
    pub stall: Duration,
    /// To receive the answer to an upload after its last byte was sent. The gateway itself waits for a receipt.
    pub receipt: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            receipt: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, ClientError> {
        Settings::new(text).url().map(|url| url.to_string())
    }

    #[test]
    fn addresses_are_parsed_with_and_without_scheme() {
        assert_eq!(url("127.0.0.1:5011").unwrap(), "http://127.0.0.1:5011/");
        assert_eq!(url(" localhost:5011 ").unwrap(), "http://localhost:5011/");
        assert_eq!(url("https://bedside.example/ward/?x=1#y").unwrap(), "https://bedside.example/ward/");
        for wrong in ["", "http://", "ftp://a", "http://me:secret@a", "a b"] {
            assert!(matches!(url(wrong), Err(ClientError::Settings(_))), "{wrong:?}");
        }
    }

    #[test]
    fn token_is_hidden_in_debug_and_valid_in_a_header() {
        let token: Token = " abc123\n".parse().unwrap();
        assert_eq!(token.as_str(), "abc123");
        assert!(!format!("{:?}", Settings::new("a").with_token(Some(token))).contains("abc123"));
        assert!(Token::new("a b").is_err());
        assert!(Token::new("").is_err());
    }
}
