//! Login with an OpenID Connect provider: authorization code with PKCE, by the crate `openidconnect`.
//!
//! The gateway keeps no state between the two requests of a login. State, nonce and PKCE verifier are derived from a random
//! secret that the browser has in a cookie, with the key of the gateways. So any gateway can finish a login, and only in the
//! browser that began it.
//!
//! The description of the provider and its keys are read at the first login, and again when they are old or do not verify an
//! ID token.

use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_server::problem::{ApiError, ProblemType};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AsyncHttpClient, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use parking_lot::Mutex;
use proto_json::WardId;
use proto_json::users::{LoginMethod, UserName};
use runtime::{Secret, StartError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::auth::tokens::Role;
use crate::sessions::Identity;
use crate::sessions::cookie::Attributes;
use crate::sessions::routes::is_of_person;

/// Longest time of a login at the provider.
const LOGIN_TIME: Duration = Duration::from_secs(600);
/// Age from which on the description of the provider is read again.
const METADATA_AGE: Duration = Duration::from_secs(3_600);
/// Shortest time between two readings of the description.
const METADATA_PAUSE: Duration = Duration::from_secs(10);
/// Longest wait for the provider.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response of the provider, in bytes.
const MAX_RESPONSE: usize = 1 << 20;
/// Path of the routes that need the cookie.
const PATH: &str = "/api/v1/session/oidc";

/// The OpenID Connect provider of the site.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "OpenID Connect")]
#[group(id = "gateway-oidc")]
pub struct OidcArgs {
    /// URL of the OpenID Connect provider, as it names itself; enables login with it
    #[arg(long, env = "BEDSIDE_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: Option<String>,
    /// Id of this client at the provider
    #[arg(long, env = "BEDSIDE_OIDC_CLIENT_ID", value_name = "ID", default_value = "bedside")]
    pub oidc_client_id: String,
    /// File with the secret of this client; not needed for a public client
    #[arg(long, env = "BEDSIDE_OIDC_CLIENT_SECRET_FILE", value_name = "FILE")]
    pub oidc_client_secret_file: Option<PathBuf>,
    /// URL to which the provider sends browsers back: the address of this server with
    /// /api/v1/session/oidc/callback
    #[arg(long, env = "BEDSIDE_OIDC_REDIRECT", value_name = "URL")]
    pub oidc_redirect: Option<String>,
    /// PEM file of the authority that signed the provider's certificate, in addition to the public ones
    #[arg(long, env = "BEDSIDE_OIDC_CA_FILE", value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Scopes that are requested besides `openid`, separated by commas
    #[arg(
        long,
        env = "BEDSIDE_OIDC_SCOPES",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "profile"
    )]
    pub oidc_scopes: Vec<String>,
    /// Claim of the ID token with the name of the user: unique, and never given to another person
    #[arg(long, env = "BEDSIDE_OIDC_NAME_CLAIM", value_name = "CLAIM", default_value = "preferred_username")]
    pub oidc_name_claim: String,
    /// Claim of the ID token with the groups of the user: a text or a list of texts
    #[arg(long, env = "BEDSIDE_OIDC_GROUPS_CLAIM", value_name = "CLAIM", default_value = "groups")]
    pub oidc_groups_claim: String,
    /// Role and wards of each group, separated by commas: `GROUP=ROLE` for all wards, `GROUP=ROLE@WARD+WARD`
    /// with ids of wards. The first group in this list that a user has decides the role; wards of further
    /// groups with this role are added. A user without a group in this list cannot log in
    #[arg(long, env = "BEDSIDE_OIDC_ROLES", value_name = "LIST", value_delimiter = ',')]
    pub oidc_roles: Vec<GroupRole>,
    /// The key of the gateways.
    #[arg(skip)]
    pub key: Option<Secret>,
}

/// Role and wards of the users of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRole {
    group: String,
    role: Role,
    /// `None` for all wards.
    wards: Option<Vec<WardId>>,
}

impl FromStr for GroupRole {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "it is GROUP=ROLE or GROUP=ROLE@WARD+WARD with ids of wards".to_owned();
        let (group, rest) =
            text.trim().rsplit_once('=').filter(|(group, _)| !group.is_empty()).ok_or_else(form)?;
        let (role, wards) = match rest.split_once('@') {
            Some((role, wards)) => (role, Some(wards)),
            None => (rest, None),
        };
        let role = Role::of_name(role).filter(|role| is_of_person(*role)).ok_or_else(|| {
            format!("{role:?} is not viewer, nurse, physician, technician, auditor or admin")
        })?;
        let wards = wards.map(|wards| wards.split('+').map(str::parse).collect::<Result<Vec<WardId>, _>>());
        Ok(GroupRole { group: group.to_owned(), role, wards: wards.transpose().map_err(|_| form())? })
    }
}

impl OidcArgs {
    /// Prepares logins with the provider; `None` without an issuer. The provider is not contacted.
    ///
    /// # Errors
    /// The setting to change.
    pub(crate) fn open(&self) -> Result<Option<Oidc>, StartError> {
        let Some(issuer) = &self.oidc_issuer else { return Ok(None) };
        let wrong =
            |setting: &str, error: &dyn std::fmt::Display| StartError::config(format!("{setting}: {error}"));
        let issuer = IssuerUrl::new(issuer.clone()).map_err(|error| wrong("--oidc-issuer", &error))?;
        is_safe(issuer.url()).map_err(|error| wrong("--oidc-issuer", &error))?;
        let redirect = self.oidc_redirect.clone().ok_or_else(|| {
            StartError::config("--oidc-issuer needs --oidc-redirect, such as https://ward.example/api/v1/session/oidc/callback")
        })?;
        let redirect = RedirectUrl::new(redirect).map_err(|error| wrong("--oidc-redirect", &error))?;
        if redirect.url().path() != format!("{PATH}/callback") {
            return Err(StartError::config(format!("--oidc-redirect: the path must be {PATH}/callback")));
        }
        if self.oidc_roles.is_empty() {
            return Err(StartError::config(
                "--oidc-issuer needs --oidc-roles, such as nurses=nurse,doctors=physician: without it, nobody could log in",
            ));
        }
        let secret = self.oidc_client_secret_file.as_deref().map(|path| {
            let text =
                std::fs::read_to_string(path).map_err(|error| wrong("--oidc-client-secret-file", &error))?;
            Ok::<_, StartError>(ClientSecret::new(text.trim().to_owned()))
        });
        let roots = self
            .oidc_ca_file
            .as_deref()
            .map(|path| std::fs::read(path).map_err(|error| wrong("--oidc-ca-file", &error)));
        let http =
            Http::new(roots.transpose()?.as_deref()).map_err(|error| wrong("--oidc-ca-file", &error))?;
        Ok(Some(Oidc {
            issuer,
            redirect,
            client_id: ClientId::new(self.oidc_client_id.clone()),
            secret: secret.transpose()?,
            settings: self.clone(),
            http,
            key: self.key.clone().map_or_else(Secret::generate, Ok)?,
            metadata: Mutex::new(None),
        }))
    }
}

/// Plain HTTP is allowed only to this machine.
fn is_safe(url: &openidconnect::url::Url) -> Result<(), String> {
    let is_here = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if url.scheme() == "https" || (url.scheme() == "http" && is_here) {
        return Ok(());
    }
    Err("the URL must begin with https://".to_owned())
}

/// All claims of an ID token besides the standard ones.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Claims {
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Provider = Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Logins with the provider of the site.
pub(crate) struct Oidc {
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    client_id: ClientId,
    secret: Option<ClientSecret>,
    settings: OidcArgs,
    http: Http,
    key: Secret,
    metadata: Mutex<Option<(Instant, Arc<CoreProviderMetadata>)>>,
}

/// The query of the callback.
#[derive(Debug, Default)]
struct Callback {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

impl Callback {
    fn parse(query: &str) -> Self {
        let mut callback = Callback::default();
        for (name, value) in openidconnect::url::form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "code" => &mut callback.code,
                "state" => &mut callback.state,
                "error" => &mut callback.error,
                _ => continue,
            };
            *field = Some(value.into_owned());
        }
        callback
    }
}

impl Oidc {
    /// The attributes of the cookie of a login that has begun. `Lax`, because the provider sends the browser back.
    pub(crate) fn attributes(&self, secure: bool) -> Attributes<'static> {
        let name = "bedside_login";
        Attributes { name, path: PATH, max_age: Some(LOGIN_TIME), same_site: "Lax", secure }
    }

    fn derived(&self, purpose: &str, secret: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.key.keyed_hash(purpose, &[secret.as_bytes()]))
    }

    fn verifier(&self, secret: &str) -> PkceCodeVerifier {
        PkceCodeVerifier::new(self.derived("oidc verifier", secret))
    }

    /// Returns the URL at the provider where a login begins.
    ///
    /// # Errors
    /// 503 if the provider cannot be reached.
    pub(crate) async fn begin(&self, secret: &str) -> Result<String, ApiError> {
        let provider = self.provider(METADATA_AGE).await?;
        let (state, nonce) = (self.derived("oidc state", secret), self.derived("oidc nonce", secret));
        let mut request = provider.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            move || CsrfToken::new(state.clone()),
            move || Nonce::new(nonce.clone()),
        );
        for scope in self.settings.oidc_scopes.iter().filter(|scope| !scope.is_empty()) {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&self.verifier(secret));
        let (url, _, _) = request.set_pkce_challenge(challenge).url();
        Ok(url.into())
    }

    /// Finishes a login and returns who has logged in.
    ///
    /// # Errors
    /// 400 if the login was not begun in this browser or the provider refused it; 403 if the user has no role here; 502 or 503
    /// if the provider fails.
    pub(crate) async fn finish(&self, secret: &str, query: &str) -> Result<Identity, ApiError> {
        let Callback { code, state, error } = Callback::parse(query);
        let expected = self.derived("oidc state", secret);
        if !bool::from(state.unwrap_or_default().as_bytes().ct_eq(expected.as_bytes())) {
            return Err(ApiError::invalid("The login was begun in another browser; log in again."));
        }
        if let Some(error) = error {
            tracing::info!(error, "the provider refused a login");
            return Err(ApiError::new(ProblemType::FORBIDDEN, "The provider refused the login."));
        }
        let code = code.ok_or_else(|| ApiError::invalid("The provider sent no code."))?;
        let provider = self.provider(METADATA_AGE).await?;
        let exchanged = provider
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| bad_provider("its description has no token endpoint", &error))?
            .set_pkce_verifier(self.verifier(secret))
            .request_async(&self.http)
            .await;
        let tokens = exchanged.map_err(|error| {
            use openidconnect::RequestTokenError;
            match error {
                // The code is used, expired, or of another browser.
                RequestTokenError::ServerResponse(error) => {
                    tracing::warn!(%error, "the provider did not accept a code");
                    ApiError::invalid("The provider did not accept the login; log in again.")
                }
                error => bad_provider("the code cannot be exchanged", &error),
            }
        })?;
        let token = tokens.id_token().ok_or_else(|| bad_provider("it sent no ID token", &"none"))?;
        let nonce = Nonce::new(self.derived("oidc nonce", secret));
        let mut verified = token.claims(&provider.id_token_verifier(), &nonce).cloned();
        if verified.is_err() {
            // Its keys may have changed.
            let provider = self.provider(METADATA_PAUSE).await?;
            verified = token.claims(&provider.id_token_verifier(), &nonce).cloned();
        }
        let claims = verified.map_err(|error| bad_provider("its ID token is not valid", &error))?;
        let claims = serde_json::to_value(&claims).map_err(ApiError::internal)?;
        identity(&self.settings, &claims)
    }

    /// Returns a client of the provider. Its description is read if it is older than `age`.
    async fn provider(&self, age: Duration) -> Result<Provider, ApiError> {
        let known = self.metadata.lock().clone().filter(|(read_at, _)| read_at.elapsed() < age);
        let metadata = match known {
            Some((_, metadata)) => metadata,
            None => {
                let read = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
                let metadata = Arc::new(read.map_err(|error| {
                    tracing::warn!(error = %explained(&error), "the OpenID Connect provider cannot be reached");
                    ApiError::unavailable("The login server of this site cannot be reached for now.", 5)
                })?);
                for endpoint in [
                    Some(metadata.authorization_endpoint().url()),
                    metadata.token_endpoint().map(|url| url.url()),
                ]
                .into_iter()
                .flatten()
                {
                    is_safe(endpoint).map_err(|error| bad_provider("an endpoint is not safe", &error))?;
                }
                *self.metadata.lock() = Some((Instant::now(), metadata.clone()));
                metadata
            }
        };
        let provider = Client::from_provider_metadata(
            CoreProviderMetadata::clone(&metadata),
            self.client_id.clone(),
            self.secret.clone(),
        );
        Ok(provider.set_redirect_uri(self.redirect.clone()))
    }
}

fn bad_provider(what: &str, error: &dyn std::fmt::Display) -> ApiError {
    tracing::error!(%error, "the OpenID Connect provider failed: {what}");
    ApiError::new(ProblemType::BAD_GATEWAY, "The login server of this site answered wrongly.")
}

fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Returns who has these claims.
fn identity(settings: &OidcArgs, claims: &Value) -> Result<Identity, ApiError> {
    let denied = |detail: String| ApiError::new(ProblemType::FORBIDDEN, detail);
    let name_claim = &settings.oidc_name_claim;
    let name = claims.get(name_claim).and_then(Value::as_str).unwrap_or_default();
    let name: UserName = name.parse().map_err(|error| {
        denied(format!("The login server gave no usable name in the claim `{name_claim}`: {error}."))
    })?;
    let groups: Vec<&str> = match claims.get(&settings.oidc_groups_claim) {
        Some(Value::String(group)) => vec![group],
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut matching = settings.oidc_roles.iter().filter(|entry| groups.contains(&entry.group.as_str()));
    let first = matching.next().ok_or_else(|| {
        denied("You have no role in this system; ask its administrator for a group that has one.".to_owned())
    })?;
    let mut wards = first.wards.clone();
    for further in matching.filter(|entry| entry.role == first.role) {
        match (&mut wards, &further.wards) {
            (Some(wards), Some(further)) => wards.extend(further),
            (wards, _) => *wards = None,
        }
    }
    if let Some(wards) = &mut wards {
        wards.sort_unstable();
        wards.dedup();
    }
    // Providers send the name as text, or as an object by language.
    let full_name = claims.get("name").and_then(|name| name.as_str().or_else(|| name.get("")?.as_str()));
    let display_name = full_name.and_then(|name| proto_json::users::check_display_name(name).ok());
    Ok(Identity {
        display_name: display_name.unwrap_or_else(|| name.to_string()),
        name: name.to_string(),
        role: first.role,
        wards,
        bed: None,
        via: LoginMethod::Oidc,
        token: None,
        until: None,
    })
}

/// Sends the requests of `openidconnect` to the provider, without redirects.
#[derive(Debug, Clone)]
struct Http(reqwest::Client);

impl Http {
    fn new(roots: Option<&[u8]>) -> Result<Self, String> {
        // Fails only if the process has installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT);
        if let Some(pem) = roots {
            let roots =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|_| "it is not a PEM file".to_owned())?;
            builder = builder.tls_certs_merge(roots);
        }
        builder.build().map(Http).map_err(|error| format!("HTTPS cannot be set up: {error}"))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.0.execute(request.try_into()?).await?;
        let mut answer = openidconnect::http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_RESPONSE {
                return Err(HttpError::TooLong);
            }
        }
        Ok(answer.body(body)?)
    }
}

/// A request to the provider failed.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("the request failed")]
    Failed(#[from] reqwest::Error),
    #[error("the response is not valid")]
    Invalid(#[from] openidconnect::http::Error),
    #[error("the response is too long")]
    TooLong,
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WARD_1: &str = "00000000-0000-0000-0000-000000000001";
    const WARD_2: &str = "00000000-0000-0000-0000-000000000002";

    fn settings(roles: &[&str]) -> OidcArgs {
        let oidc_roles = roles.iter().map(|role| role.parse().unwrap()).collect();
        OidcArgs { oidc_roles, ..OidcArgs::default() }
    }

    #[test]
    fn groups_decide_role_and_wards() {
        let settings = settings(&[
            "admins=admin",
            &format!("icu=nurse@{WARD_1}"),
            &format!("step=down=nurse@{WARD_2}+{WARD_1}"),
            "float=nurse",
            "readers=viewer",
        ]);
        let who =
            |groups: Value| identity(&settings, &json!({ "preferred_username": "Anna", "groups": groups }));
        let wards = |groups: Value| {
            let who = who(groups).unwrap();
            (who.role, who.wards.map(|wards| wards.iter().map(WardId::to_string).collect::<Vec<_>>()))
        };
        assert_eq!(wards(json!("icu")), (Role::Nurse, Some(vec![WARD_1.to_owned()])));
        let both = Some(vec![WARD_1.to_owned(), WARD_2.to_owned()]);
        assert_eq!(wards(json!(["readers", "step=down", "icu", 7])), (Role::Nurse, both));
        assert_eq!(wards(json!(["icu", "float"])), (Role::Nurse, None));
        assert_eq!(wards(json!(["icu", "admins"])), (Role::Admin, None));
        for none in [json!([]), json!("icu2"), json!(null), json!({ "icu": true })] {
            assert_eq!(who(none).unwrap_err().kind.status, 403);
        }
        assert_eq!(who(json!("icu")).unwrap().name, "anna");
        for name in [json!(""), json!("Anna Berg"), json!(7)] {
            let claims = json!({ "preferred_username": name, "groups": "icu" });
            assert!(identity(&settings, &claims).unwrap_err().detail.contains("preferred_username"));
        }
    }

    #[test]
    fn wrong_mapping_is_rejected() {
        for wrong in ["", "nurses", "=nurse", "nurses=", "a=device", "a=uploader", "a=nurse@", "a=nurse@3"] {
            assert!(wrong.parse::<GroupRole>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn unsafe_or_incomplete_settings_are_rejected() {
        let args = |issuer: &str, redirect: &str| OidcArgs {
            oidc_issuer: Some(issuer.to_owned()),
            oidc_redirect: Some(redirect.to_owned()),
            ..settings(&["a=nurse"])
        };
        let callback = "https://ward.example/api/v1/session/oidc/callback";
        assert!(args("https://login.example", callback).open().unwrap().is_some());
        assert!(args("http://127.0.0.1:3000", callback).open().unwrap().is_some());
        for (issuer, redirect, about) in [
            ("http://login.example", callback, "--oidc-issuer"),
            ("login", callback, "--oidc-issuer"),
            ("https://login.example", "https://ward.example/", "--oidc-redirect"),
        ] {
            let error = args(issuer, redirect).open().err().unwrap().to_string();
            assert!(error.contains(about), "{error}");
        }
        let without = OidcArgs { oidc_roles: Vec::new(), ..args("https://login.example", callback) };
        assert!(without.open().err().unwrap().to_string().contains("--oidc-roles"));
        assert!(OidcArgs::default().open().unwrap().is_none());
    }
}
