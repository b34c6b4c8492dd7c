//! `POST /json_rpc`: pause, resume and stop, by JSON-RPC 2.0.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{http_server::Reply, miner::Control, values::PauseReason};

const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;
const METHOD_NOT_FOUND: i32 = -32_601;
/// Of the range that is for servers' own errors.
const REFUSED: i32 = -32_000;

/// Carries calls out.
pub struct Rpc {
    control: Control,
}

/// A call.
#[derive(Deserialize)]
struct Call {
    /// Without one nobody waits for the answer.
    #[serde(default, deserialize_with = "given")]
    id: Option<Value>,
    jsonrpc: Option<String>,
    method: String,
}

/// `null` is an identifier too, unlike none at all.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Rpc {
    pub fn new(control: Control) -> Self {
        Self { control }
    }

    /// Carries a call out.
    pub fn call(&self, body: &[u8]) -> Reply {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => return failure(Value::Null, PARSE_ERROR, &format!("Parse error: {error}")),
        };
        let id = value.get("id").cloned().unwrap_or_default();
        let is_id = matches!(id, Value::Null | Value::String(_) | Value::Number(_));
        let call = Call::deserialize(value);
        let Some(call) = call.ok().filter(|call| is_id && call.jsonrpc.as_deref().is_none_or(|v| v == "2.0"))
        else {
            let message =
                "Invalid Request: send an object such as {\"jsonrpc\":\"2.0\",\"method\":\"pause\",\"id\":1}";
            return failure(if is_id { id } else { Value::Null }, INVALID_REQUEST, message);
        };
        match call.method.as_str() {
            "pause" => self.control.pause(PauseReason::User),
            "resume" => self.control.resume(PauseReason::User),
            "stop" => self.control.finish(),
            _ => return failure(id, METHOD_NOT_FOUND, "Method not found: there are pause, resume and stop"),
        }
        tracing::info!("HTTP API: {} was asked for", call.method);
        match call.id {
            Some(id) => {
                Reply::json(200, &json!({ "id": id, "jsonrpc": "2.0", "result": { "status": "OK" } }))
            }
            None => Reply::new(204, "application/json", Bytes::new()),
        }
    }
}

/// The answer to a call that was not looked at.
pub fn error(message: &str) -> Reply {
    failure(Value::Null, REFUSED, message)
}

fn failure(id: Value, code: i32, message: &str) -> Reply {
    Reply::json(200, &json!({ "id": id, "jsonrpc": "2.0", "error": { "code": code, "message": message } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miner::Control;

    fn answer(rpc: &Rpc, body: &str) -> Value {
        serde_json::from_slice(&rpc.call(body.as_bytes()).body).expect("JSON")
    }

    #[test]
    fn calls_that_are_none_are_answered_by_their_error() {
        let rpc = Rpc::new(Control::to_nobody());
        for (body, code, id) in [
            ("{", PARSE_ERROR, Value::Null),
            ("", PARSE_ERROR, Value::Null),
            ("[]", INVALID_REQUEST, Value::Null),
            ("{\"id\":1}", INVALID_REQUEST, 1.into()),
            ("{\"id\":1,\"method\":7}", INVALID_REQUEST, 1.into()),
            ("{\"id\":{},\"method\":\"pause\"}", INVALID_REQUEST, Value::Null),
            ("{\"id\":1,\"jsonrpc\":\"1.0\",\"method\":\"pause\"}", INVALID_REQUEST, 1.into()),
            ("{\"id\":\"a\",\"method\":\"dance\"}", METHOD_NOT_FOUND, "a".into()),
        ] {
            let answer = answer(&rpc, body);
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&code.into(), &id), "{body}");
        }
    }

    #[test]
    fn a_call_is_answered_with_its_id_and_a_notification_with_nothing() {
        let rpc = Rpc::new(Control::to_nobody());
        let ok = |id: Value| json!({ "id": id, "jsonrpc": "2.0", "result": { "status": "OK" } });
        assert_eq!(answer(&rpc, "{\"method\":\"pause\",\"id\":1}"), ok(1.into()));
        assert_eq!(answer(&rpc, "{\"method\":\"stop\",\"id\":null,\"params\":[]}"), ok(Value::Null));
        let reply = rpc.call(b"{\"method\":\"resume\"}");
        assert_eq!((reply.status, reply.body.len()), (204, 0));
    }
}
