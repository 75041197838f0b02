//! Opens the page in the browser of a desktop, so that a newcomer sees the ward at once.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use webbrowser::{Browser, BrowserOptions};

/// Variables of a graphical session on systems where it is optional.
const SESSION: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];
/// Set in a session over SSH. A browser would open on the wrong machine.
const REMOTE: &str = "SSH_CONNECTION";

/// Opens the page if a person at a desktop has started the program from a terminal. A failure is only logged: the
/// address is on the terminal.
pub(crate) fn open_on_desktop(address: SocketAddr) {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !std::io::stdout().is_terminal() || !is_desktop(is_set) {
        return;
    }
    let url = url(address);
    // The start of a browser can take seconds, and the end of the program does not wait for it.
    std::thread::spawn(move || {
        // Without output, no browser for text terminals is started.
        let options = BrowserOptions::new().with_suppress_output(true).to_owned();
        if let Err(error) = webbrowser::open_browser_with_options(Browser::Default, &url, &options) {
            tracing::warn!(%error, "the browser cannot be opened");
        }
    });
}

fn is_desktop(is_set: impl Fn(&str) -> bool) -> bool {
    let has_session = cfg!(any(windows, target_os = "macos")) || SESSION.into_iter().any(&is_set);
    has_session && !is_set(REMOTE)
}

/// The address for a browser on this machine. An address of all interfaces is not one that a browser can open.
pub(crate) fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(any(windows, target_os = "macos")))]
    fn browser_opens_in_a_local_graphical_session_alone() {
        let of = |set: &[&str]| is_desktop(|name| set.contains(&name));
        assert!(of(&["DISPLAY"]) && of(&["WAYLAND_DISPLAY"]));
        assert!(!of(&[]));
        assert!(!of(&["DISPLAY", "SSH_CONNECTION"]));
    }

    #[test]
    fn url_is_one_that_a_browser_can_open() {
        let url_of = |address: &str| url(address.parse().unwrap());
        assert_eq!(url_of("127.0.0.1:5011"), "http://127.0.0.1:5011/");
        assert_eq!(url_of("0.0.0.0:80"), "http://127.0.0.1:80/");
        assert_eq!(url_of("[::]:5011"), "http://[::1]:5011/");
    }
}
