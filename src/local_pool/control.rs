//! The body of `POST /control`: something to be done, or a fault.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    HandlerState,
    faults::{Fault, FaultError, Lasts},
};

/// What is asked for.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Inject a fault.
    Fault(Fault),
    /// Change the pool.
    Action(Action),
}

/// A change of the pool. Those without members have braces because serde refuses unknown members only there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    NewBlock {},
    Reorganise {
        depth: u32,
        #[serde(default)]
        lower: u32,
    },
    Handlers {
        count: usize,
    },
    Handler {
        index: usize,
        state: HandlerState,
    },
    HandlerOrder {
        order: Vec<usize>,
    },
    ListHandler {
        index: usize,
        url: Option<String>,
    },
    MasterDown {
        seconds: f64,
    },
    WorkBits {
        value: u32,
    },
    AnnounceWorkBits {
        value: Option<u32>,
    },
    MineOld {
        value: u32,
    },
    Ready {
        value: bool,
    },
    Clear {},
}

/// A body that asks for nothing that can be done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the body is no JSON object ({0}). {USAGE}")]
    Json(#[from] serde_json::Error),
    #[error("the body has neither \"action\" nor \"fault\". {USAGE}")]
    Neither,
    #[error("the action cannot be done: {0}. {USAGE}")]
    Action(serde_json::Error),
    #[error("the fault's members cannot be read: {0}. {USAGE}")]
    FaultMembers(serde_json::Error),
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error("a fault lasts for \"count\" requests or for \"seconds\", not both, and for at most an hour")]
    Lasts,
}

const USAGE: &str = "There is {\"action\": \"new-block\"}, {\"action\": \"reorganise\", \"depth\": 2, \"lower\": 0}, \
    {\"action\": \"handlers\", \"count\": 3}, {\"action\": \"handler\", \"index\": 0, \"state\": \
    \"up|down|unwanted\"}, {\"action\": \"handler-order\", \"order\": [1, 0]}, {\"action\": \"list-handler\", \
    \"index\": 0, \"url\": \"http://other/submit\"} (null: its own again), {\"action\": \"master-down\", \
    \"seconds\": 60}, {\"action\": \"work-bits\", \"value\": 537001984}, {\"action\": \
    \"announce-work-bits\", \"value\": null}, {\"action\": \"mine-old\", \"value\": 3}, {\"action\": \"ready\", \
    \"value\": false}, {\"action\": \"clear\"} (the faults), and {\"fault\": \"503\", \"on\": \"handlers\", \
    \"count\": 10, \"seconds\": 5, \"percent\": 20, \"after_work\": false}, of which all but \"fault\" may be \
    missing, or in short {\"fault\": \"503:handlers:10\"} or {\"fault\": \"reorganise=2:30s\"}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultBody {
    fault: String,
    on: Option<String>,
    count: Option<u64>,
    seconds: Option<f64>,
    percent: Option<f64>,
    #[serde(default)]
    after_work: bool,
}

/// Reads the body of `POST /control`.
pub fn parse(body: &[u8]) -> Result<Command, ControlError> {
    let value: Value = serde_json::from_slice(body)?;
    if value.get("fault").is_some() {
        let body = FaultBody::deserialize(value).map_err(ControlError::FaultMembers)?;
        return Ok(Command::Fault(body.into_fault()?));
    }
    if value.get("action").is_none() {
        return Err(ControlError::Neither);
    }
    Action::deserialize(value).map(Command::Action).map_err(ControlError::Action)
}

impl FaultBody {
    fn into_fault(self) -> Result<Fault, ControlError> {
        let mut fault: Fault = self.fault.parse()?;
        if let Some(on) = self.on {
            fault.set_on(&on)?;
        }
        if let Some(percent) = self.percent {
            fault.set_probability(percent / 100.0)?;
        }
        fault.lasts = match (self.count, self.seconds) {
            (None, None) => fault.lasts,
            (Some(count), None) => Lasts::Requests(count),
            (None, Some(seconds)) if (0.0..=3600.0).contains(&seconds) => {
                Lasts::For(Duration::from_secs_f64(seconds))
            }
            _ => return Err(ControlError::Lasts),
        };
        if self.after_work {
            fault.set_after_work(true)?;
        }
        Ok(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::faults::{FaultKind, On},
        *,
    };

    fn read(body: &str) -> Command {
        parse(body.as_bytes()).expect(body)
    }

    #[test]
    fn faults_are_read_in_long_and_in_short() {
        let fault = Fault::new(FaultKind::Overloaded).on(On::Handlers).times(10);
        assert_eq!(
            read(r#"{"fault":"overloaded","on":"handlers","count":10}"#),
            Command::Fault(fault.clone())
        );
        assert_eq!(read(r#"{"fault":"503:handlers:10"}"#), Command::Fault(fault));
        let Command::Fault(fault) =
            read(r#"{"fault":"hang=2s","on":"handler1","seconds":5,"percent":20,"after_work":true}"#)
        else {
            panic!("a fault")
        };
        assert_eq!(fault.to_string(), "hang=2000ms:handler1:5000ms:20%:after");
    }

    #[test]
    fn actions_are_read() {
        assert_eq!(read(r#"{"action":"new-block"}"#), Command::Action(Action::NewBlock {}));
        assert_eq!(
            read(r#"{"action":"reorganise","depth":2}"#),
            Command::Action(Action::Reorganise { depth: 2, lower: 0 })
        );
        assert_eq!(
            read(r#"{"action":"handler","index":1,"state":"down"}"#),
            Command::Action(Action::Handler { index: 1, state: HandlerState::Down })
        );
        assert_eq!(
            read(r#"{"action":"handler-order","order":[1,0]}"#),
            Command::Action(Action::HandlerOrder { order: vec![1, 0] })
        );
        assert_eq!(
            read(r#"{"action":"list-handler","index":1,"url":null}"#),
            Command::Action(Action::ListHandler { index: 1, url: None })
        );
        assert_eq!(
            read(r#"{"action":"announce-work-bits","value":null}"#),
            Command::Action(Action::AnnounceWorkBits { value: None })
        );
    }

    #[test]
    fn a_bad_body_is_told_what_there_is() {
        for body in [
            "",
            "[]",
            "{}",
            "{\"action\":\"dance\"}",
            "{\"action\":\"reorganise\"}",
            "{\"fault\":7}",
            "{\"fault\":\"503\",\"when\":\"now\"}",
        ] {
            let error = parse(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains("new-block") && error.contains("503:handlers:10"), "{body}: {error}");
        }
        let error = |body: &str| parse(body.as_bytes()).expect_err(body).to_string();
        for body in [r#"{"action":"new-block","colour":1}"#, r#"{"action":"ready","value":true,"colour":1}"#]
        {
            assert!(error(body).contains("unknown field `colour`"), "{}", error(body));
        }
        assert!(error(r#"{"fault":"sneeze"}"#).contains("close-reply"));
        assert!(error(r#"{"fault":"503","on":"10"}"#).contains("handler0"));
        assert!(error(r#"{"fault":"reorganise","on":"master"}"#).contains("befalls the chain"));
        assert!(error(r#"{"fault":"503","count":1,"seconds":1}"#).contains("not both"));
        assert!(error(r#"{"fault":"503","seconds":1e99}"#).contains("hour"));
    }
}
