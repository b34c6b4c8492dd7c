//! What is wrong at the moment, so that it is said once and not at every poll.

/// How many different sentences are said until all is well again: a pool whose answers are broken in ever new
/// ways must not fill the log.
const SAID_MAX: usize = 16;

/// One topic's complaints.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Vec<String>,
}

impl Complaints {
    /// Something failed. Gives it back if it was not said since all was last well.
    pub fn failed(&mut self, problem: String) -> Option<String> {
        if self.said.contains(&problem) || self.said.len() >= SAID_MAX {
            return None;
        }
        self.said.push(problem.clone());
        Some(problem)
    }

    /// All that is wrong just now; gives what is new of it, in one line.
    pub fn replace(&mut self, problems: Vec<String>) -> Option<String> {
        let new: Vec<_> = problems.iter().filter(|p| !self.said.contains(p)).map(String::as_str).collect();
        let line = (!new.is_empty()).then(|| new.join("; "));
        self.said = problems;
        line
    }

    /// All is well. Whether it was not before.
    pub fn over(&mut self) -> bool {
        !std::mem::take(&mut self.said).is_empty()
    }

    /// The newest complaint, while there is one.
    pub fn latest(&self) -> Option<&str> {
        self.said.last().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_made_once_until_all_is_well() {
        let mut complaints = Complaints::default();
        assert!(!complaints.over());
        for (problem, said) in [("a", true), ("a", false), ("b", true), ("a", false)] {
            assert_eq!(complaints.failed(problem.into()).is_some(), said, "{problem}");
        }
        assert!(complaints.over());
        assert!(complaints.failed("a".into()).is_some());
        assert_eq!(complaints.latest(), Some("a"));
    }

    #[test]
    fn complaints_that_never_repeat_come_to_an_end() {
        let mut complaints = Complaints::default();
        let said = (0..1000).filter(|n| complaints.failed(n.to_string()).is_some()).count();
        assert_eq!(said, SAID_MAX);
    }

    #[test]
    fn of_several_problems_only_the_new_ones_are_said() {
        let mut complaints = Complaints::default();
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(complaints.replace(list("a b")), Some("a; b".into()));
        assert_eq!(complaints.replace(list("a b")), None);
        assert_eq!(complaints.replace(list("b c")), Some("c".into()));
        assert_eq!(complaints.replace(list("a b c")), Some("a".into()));
    }
}
