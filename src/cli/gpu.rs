//! The flags that say which GPUs work, and how.

use std::num::NonZero;

use clap::Args;

use super::{UsageError, units::parse_count};
use crate::backend::gpu;

/// The flags.
#[derive(Debug, Args)]
// Their only other name is that of the type, which flags of other things have too.
#[group(skip)]
pub struct Flags {
    /// GPUs that mine: indices and parts of names as `pktmine devices` lists them, separated by commas [default: all
    /// graphics cards; what shares the processor only when named here]
    #[arg(long, value_name = "LIST")]
    device: Option<String>,

    /// Rounds that each GPU takes at once [default: what suits it]
    #[arg(long, value_name = "N", value_parser = parse_count::<NonZero<u32>>)]
    gpu_rounds: Option<NonZero<u32>>,

    /// Settings of GPU passes that change nothing but their speed, for measuring: KEY=VALUE, separated by commas
    #[arg(long, value_name = "SETTINGS", hide = true)]
    gpu_tuning: Option<gpu::Tuning>,
}

impl Flags {
    /// What they say, where GPUs are to work or none.
    ///
    /// # Errors
    /// If they say something though none is.
    pub fn settings(&self, none: bool) -> Result<gpu::Settings, UsageError> {
        if none && (self.device.is_some() || self.gpu_rounds.is_some()) {
            let text = "--device and --gpu-rounds are for GPUs: leave --backend cpu away";
            return Err(UsageError(text.into()));
        }
        Ok(gpu::Settings {
            devices: self.device.clone().map_or(gpu::Selection::Suitable, gpu::Selection::Named),
            rounds: self.gpu_rounds,
            tuning: self.gpu_tuning.clone().unwrap_or_default(),
            late: false,
        })
    }
}
