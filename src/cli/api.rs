//! The flags of the HTTP API, and its start.

use std::net::SocketAddr;

use clap::Args;

use super::{UsageError, units::parse_listen};
use crate::{
    api::{Api, Card, Settings, StartError, Token},
    backend::BackendInfo,
    miner::Miner,
};

/// The flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Serve a page, metrics and the API there, such as 127.0.0.1:4048 (port 0: any) [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_listen)]
    http: Option<SocketAddr>,

    /// What HTTP clients must show as bearer token; @FILE takes it from a file
    #[arg(long, value_name = "TOKEN", requires = "http")]
    http_token: Option<Token>,

    /// Let HTTP clients pause, resume and stop the miner
    #[arg(long, requires = "http")]
    http_control: bool,
}

impl Flags {
    /// Starts the API if it was asked for. It answers until it is dropped.
    ///
    /// # Errors
    /// If it cannot listen, or anybody on the network could control the miner.
    pub fn start(&self, miner: &Miner) -> anyhow::Result<Option<Api>> {
        let Some(listen) = self.http else { return Ok(None) };
        let settings = Settings {
            listen,
            token: self.http_token.clone(),
            control: self.http_control,
            cards: miner.backends().filter_map(card).collect(),
        };
        let api = Api::start(settings, miner.watch(), miner.control()).map_err(|error| match error {
            StartError::OpenControl(_) => UsageError(error.to_string()).into(),
            other => anyhow::Error::new(other),
        })?;
        // Not an error: Prometheus in a cluster is given no token as a rule, and what is told is rates and names of pools.
        if self.http_token.is_none() && !listen.ip().is_loopback() {
            tracing::warn!(
                "everybody who reaches {} can read the HTTP API; give a token with --http-token, or listen on \
                 127.0.0.1 alone",
                api.address()
            );
        }
        let may = if self.http_control { "with control" } else { "read-only" };
        tracing::info!("HTTP API at http://{}/, {may}", api.address());
        Ok(Some(api))
    }
}

/// The card that a backend mines on.
fn card(backend: &BackendInfo) -> Option<Card> {
    Some(Card { backend: backend.name.clone(), bus: backend.bus.clone()? })
}
