//! The state that all request handlers share.

use std::sync::Arc;

use bus::BusPorts;
use runtime::{Secret, Shutdown};
use tokio::sync::watch;

use crate::admission::Admission;
use crate::auth::audit::AuditLog;
use crate::auth::audit_chain::AuditChain;
use crate::auth::tokens::Tokens;
use crate::auth::wards::Wards;
use crate::config::Config;
use crate::events::notifier::Notifier;
use crate::http::clock::Clock;
use crate::reads::query::QueryService;
use crate::sessions::Sessions;
use crate::sessions::oidc::Oidc;
use crate::uploads::preview::Previews;
use crate::uploads::spool::SpoolFolder;
use crate::waves::Waves;

/// The state that all request handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    /// Derives upload ids that clients cannot guess. `None` only without tokens, because there is one client
    /// then.
    pub(crate) key: Option<Secret>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) audit_chain: AuditChain,
    /// The valid tokens; `None` if no tokens are configured.
    pub(crate) tokens: Option<watch::Receiver<Arc<Tokens>>>,
    pub(crate) bus: BusPorts,
    pub(crate) reads: QueryService,
    /// Ingest, which changes records on request.
    pub(crate) records: QueryService,
    /// The alarms.
    pub(crate) alarms: QueryService,
    pub(crate) sessions: Sessions,
    /// The OpenID Connect provider of the site, if there is one.
    pub(crate) oidc: Option<Oidc>,
    /// The places of patients.
    pub(crate) wards: Wards,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) waves: Waves,
    pub(crate) spool: SpoolFolder,
    pub(crate) previews: Previews,
    pub(crate) admission: Admission,
    pub(crate) shutdown: Shutdown,
}
