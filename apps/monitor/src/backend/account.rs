//! Login, and emergency access to patients of other wards.

use client::ClientError;
use proto_json::Mrn;
use ui::{Settings, format, tr};

use super::{Backend, BackendEvent};

impl Backend {
    /// Asks who this client is. The answer has the number of the connection.
    pub(crate) fn load_session(&self, number: u64) {
        let Some(gateway) = self.gateway.clone() else { return };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            match gateway.session().await {
                Ok(session) => events.send(BackendEvent::Session(number, Box::new(session))),
                // The feed reports a rejected client.
                Err(error) => tracing::debug!(%error, "the session cannot be loaded"),
            }
        });
    }

    /// Logs in at the gateway of these settings.
    pub(crate) fn log_in(&self, settings: Settings, user: String, password: String) {
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            events.send(BackendEvent::LoggedIn(ui::log_in(settings, user, password).await));
        });
    }

    /// Ends the session of these settings.
    pub(crate) fn log_out(&self, settings: Settings) {
        self.runtime.spawn_detached(ui::log_out(settings));
    }

    /// Accesses a patient of another ward. Returns `false` if there is no connection.
    pub(crate) fn access(&self, mrn: Mrn, reason: String) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let patient = async {
                gateway.break_glass(mrn, &reason).await?;
                gateway.patient(mrn).await
            };
            let patient = match patient.await {
                Ok(Some(patient)) => Ok(Box::new(patient)),
                Ok(None) => Err(tr!("No patient has this number.").to_owned()),
                Err(ClientError::Refused(problem)) if problem.status == 409 => {
                    Err(tr!("No patient of another ward has this number.").to_owned())
                }
                Err(error) => Err(format::sentence(&error.to_string())),
            };
            events.send(BackendEvent::Accessed(mrn, patient));
        });
        true
    }
}
