//! How many files, and so connections, the system lets this process have open.

/// Descriptors that are left for everything that is no connection: files, pipes, connections that are being closed.
#[cfg(unix)]
const OTHERS: u64 = 300;

/// Raises the limit on open files as far as this process may, and returns what it is then; `None`: there is none, or
/// this system has no such thing.
pub fn raise_descriptor_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // Some systems refuse what they say themselves: then it stays as it is.
        let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    }
    descriptor_limit()
}

fn descriptor_limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    None
}

/// So many connections as are asked for, but no more than there are descriptors for.
pub fn connections_within(asked: usize) -> usize {
    #[cfg(unix)]
    if let Some(limit) = descriptor_limit() {
        // Where there are few, half of them.
        let most = limit.saturating_sub(OTHERS).max(limit / 2).max(1);
        return asked.min(usize::try_from(most).unwrap_or(usize::MAX));
    }
    asked
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_connections_than_descriptors() {
        assert_eq!(connections_within(1), 1);
        let most = connections_within(usize::MAX) as u64;
        assert!(descriptor_limit().is_none_or(|limit| most < limit));
    }
}
