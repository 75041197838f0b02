//! The state of all request handlers.

use std::sync::Arc;

use store::PatientStore;

/// The store that all handlers read from.
pub(crate) type Store = Arc<dyn PatientStore>;
