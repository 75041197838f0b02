//! A progress bar on a terminal; nothing elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use client::Progress;

use super::words;

const WIDTH: u64 = 30;
const REDRAW_EVERY: Duration = Duration::from_millis(80);

/// Draws how far an upload has come on standard error.
#[derive(Debug)]
pub(super) struct Bar {
    drawn: Option<Mutex<Option<Instant>>>,
}

impl Bar {
    pub(super) fn new() -> Self {
        Bar { drawn: io::stderr().is_terminal().then(Mutex::default) }
    }

    pub(super) fn show(&self, progress: Progress) {
        let Some(Ok(mut drawn)) = self.drawn.as_ref().map(Mutex::lock) else { return };
        let done = progress.sent >= progress.total;
        if !done && drawn.is_some_and(|at| at.elapsed() < REDRAW_EVERY) {
            return;
        }
        *drawn = Some(Instant::now());
        let mut err = io::stderr().lock();
        // A terminal that is gone is no reason to stop an upload.
        let _ = write!(err, "\r{}\x1b[K{}", bar(progress), if done { "\n" } else { "" });
        let _ = err.flush();
    }
}

fn bar(Progress { sent, total }: Progress) -> String {
    let filled = (sent.saturating_mul(WIDTH) / total.max(1)).min(WIDTH) as usize;
    let rest = WIDTH as usize - filled;
    format!("[{}{}] {} of {}", "#".repeat(filled), "-".repeat(rest), words::bytes(sent), words::bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_from_left_to_right() {
        assert_eq!(bar(Progress { sent: 0, total: 60 }), format!("[{}] 0 B of 60 B", "-".repeat(30)));
        assert_eq!(
            bar(Progress { sent: 30, total: 60 }),
            format!("[{}{}] 30 B of 60 B", "#".repeat(15), "-".repeat(15))
        );
        assert_eq!(bar(Progress { sent: 60, total: 60 }), format!("[{}] 60 B of 60 B", "#".repeat(30)));
        assert_eq!(bar(Progress { sent: 0, total: 0 }), format!("[{}] 0 B of 0 B", "-".repeat(30)));
    }
}
