//! Progress bars on standard error. They are hidden if standard error is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a bar for an upload. Set its length before its position.
pub(super) fn byte_bar() -> ProgressBar {
    bar("[{bar:30}] {decimal_bytes} of {decimal_total_bytes}", 0)
}

/// Returns a bar for `total` items; `unit` is their plural.
pub(super) fn item_bar(total: u64, unit: &str) -> ProgressBar {
    bar(&format!("[{{bar:30}}] {{pos}} of {{len}} {unit}"), total)
}

/// Returns a bar whose position is in milliseconds, for something of this length, or without end. Its message follows it.
pub(super) fn seconds_bar(length_s: Option<f64>) -> ProgressBar {
    match length_s {
        Some(length_s) => bar("[{bar:30}] {percent} %  {msg}", (length_s * 1000.0) as u64),
        None => bar("{spinner} {elapsed}  {msg}", 0),
    }
}

fn bar(template: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style.progress_chars("#>-"))
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};

    use super::*;

    fn drawn(bar: ProgressBar, position: u64) -> String {
        let terminal = InMemoryTerm::new(2, 80);
        let copy: Box<dyn TermLike> = Box::new(terminal.clone());
        bar.set_draw_target(ProgressDrawTarget::term_like(copy));
        bar.set_position(position);
        bar.tick();
        terminal.contents()
    }

    #[test]
    fn bars_show_bytes_and_items() {
        let bytes = byte_bar();
        bytes.set_length(3_000_000);
        assert_eq!(
            drawn(bytes, 1_500_000),
            format!("[{}>{}] 1.50 MB of 3.00 MB", "#".repeat(15), "-".repeat(14))
        );
        assert!(drawn(item_bar(4, "patients"), 4).ends_with("] 4 of 4 patients"));
    }
}
