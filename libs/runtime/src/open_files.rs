//! How many files and connections a process may have open.

/// Lifts the limit of open files to the most that this process may have: many systems begin at 1,024 out of habit, and
/// each client that is connected takes one. Returns the limit that is in force then, where there is one.
///
/// # Errors
/// When the system does not allow it; the limit is then as it was.
#[cfg(unix)]
pub(crate) fn lift_limit() -> std::io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

/// There is nothing to lift here.
#[cfg(not(unix))]
pub(crate) fn lift_limit() -> std::io::Result<Option<u64>> {
    Ok(None)
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn a_low_limit_is_lifted_as_far_as_it_may() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(256), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        assert_eq!(super::lift_limit().unwrap(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        setrlimit(Resource::Nofile, before).unwrap();
    }
}
