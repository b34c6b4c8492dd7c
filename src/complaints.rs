//! What is wrong at the moment, so that it is said once and not at every poll.

use std::time::Duration;

use crate::values::Moment;

/// While something stays wrong, it is said again that often: who looks at a log sees its end.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// How many of several problems are spelled out in one line.
const SPELLED_OUT: usize = 2;

/// How many different sentences are said until all is well again: a pool whose answers are broken in ever new
/// ways must not fill the log.
const SAID_MAX: usize = 16;

/// One topic's complaints.
#[derive(Debug, Default)]
pub struct Complaints {
    said: Vec<String>,
    /// When something was last said.
    last: Moment,
}

impl Complaints {
    /// Something failed. Gives it back if it was not said since all was last well, or nothing was for long.
    pub fn failed(&mut self, problem: String, now: Moment) -> Option<String> {
        let is_new = !self.said.contains(&problem) && self.said.len() < SAID_MAX;
        if !is_new && now < self.last + SAID_AGAIN_AFTER {
            return None;
        }
        if is_new {
            self.said.push(problem.clone());
        }
        self.last = now;
        Some(problem)
    }

    /// All that is wrong just now; gives what is new of it, in one line.
    pub fn replace(&mut self, problems: Vec<String>) -> Option<String> {
        let new: Vec<_> = problems.iter().filter(|p| !self.said.contains(p)).map(String::as_str).collect();
        let line = (!new.is_empty()).then(|| few(&new, "; "));
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

/// The first ones of a list, and how many more there are.
pub fn few<T: AsRef<str>>(list: &[T], separator: &str) -> String {
    let mut parts: Vec<_> = list.iter().take(SPELLED_OUT).map(|part| part.as_ref().to_owned()).collect();
    if list.len() > SPELLED_OUT {
        parts.push(format!("and {} more", list.len() - SPELLED_OUT));
    }
    parts.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_made_once_until_all_is_well() {
        let mut complaints = Complaints::default();
        assert!(!complaints.over());
        for (problem, said) in [("a", true), ("a", false), ("b", true), ("a", false)] {
            assert_eq!(complaints.failed(problem.into(), Moment::ZERO).is_some(), said, "{problem}");
        }
        assert!(complaints.over());
        assert!(complaints.failed("a".into(), Moment::ZERO).is_some());
        assert_eq!(complaints.latest(), Some("a"));
    }

    #[test]
    fn complaints_that_never_repeat_come_to_an_end() {
        let mut complaints = Complaints::default();
        let said = (0..1000).filter(|n| complaints.failed(n.to_string(), Moment::ZERO).is_some()).count();
        assert_eq!(said, SAID_MAX);
    }

    #[test]
    fn what_stays_wrong_is_said_again_every_few_minutes() {
        let mut complaints = Complaints::default();
        let said = |second: &u64| complaints.failed("a".into(), Duration::from_secs(*second)).is_some();
        assert_eq!((1000..2000).filter(said).collect::<Vec<_>>(), [1000, 1300, 1600, 1900]);
    }

    #[test]
    fn of_several_problems_only_the_new_ones_are_said() {
        let mut complaints = Complaints::default();
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(complaints.replace(list("a b")), Some("a; b".into()));
        assert_eq!(complaints.replace(list("a b")), None);
        assert_eq!(complaints.replace(list("b c")), Some("c".into()));
        assert_eq!(complaints.replace(list("a b c")), Some("a".into()));
        assert_eq!(complaints.replace(list("v w x y z")), Some("v; w; and 3 more".into()));
    }
}
