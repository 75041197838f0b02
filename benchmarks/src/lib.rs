//! Parts that the measuring programs share.

use std::time::Duration;

use client::{Feed, FeedEvent, FeedMode, FeedSettings, Gateway};

/// Quantile of a sorted list; NaN if it is empty.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// A connected feed that only receives pushed updates and does not poll.
///
/// # Panics
/// If the feed ends.
#[allow(clippy::expect_used, reason = "a benchmark ends when something fails")]
pub async fn pushed_feed(gateway: &Gateway) -> Feed {
    let mut settings = FeedSettings::new(gateway.clone(), None);
    settings.poll_every = Duration::from_secs(3600);
    settings.reload_every = Duration::from_secs(3600);
    let mut feed = Feed::start(settings);
    loop {
        if let FeedEvent::Connection(state) = feed.next().await.expect("the feed continues")
            && state.mode == FeedMode::ServerSentEvents
        {
            return feed;
        }
    }
}
