//! What only measuring on hardware can decide, all in one place: it can be set without building anew.

use std::{fmt, str::FromStr};

use super::{
    context::Options,
    passes::{
        execute::{ExecuteConfig, OutputPlace, RegisterPlace},
        finish::FinishConfig,
        search::SearchTuning,
    },
};

/// How a device runs the passes. Results are the same, whatever is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What of the device is used.
    pub options: Options,
    /// How programs are run.
    pub execute: ExecuteConfig,
    /// How items are finished.
    pub finish: FinishConfig,
    /// How soft nonces are searched.
    pub search: SearchTuning,
    /// Soft nonces that are searched at a time; `None`: what suits the kind of device.
    pub states: Option<u32>,
}

/// What is to be set otherwise than by default: `KEY=VALUE,…`, for measuring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning(Vec<(String, String)>);

/// Sizes of workgroups: they divide a unit's 1792 lanes.
const LANES: [u32; 5] = [16, 32, 64, 128, 256];

/// The keys, for whoever mistypes one.
const KEYS: &str = "int64=on|off, unchecked=on|off, loop-bounds=on|off, execute-lanes=N, output=workgroup|storage, \
                    registers=storage|workgroup:ROWS|private:ROWS, finish-lanes=N, finish-sorted=on|off, \
                    advance-lanes=N, hash-lanes=N, assemble-lanes=N, tile=N, chacha-loop=on|off, mixed-rows=on|off, \
                    states=N";

/// Settings that ask less and less of a compiler: without 64-bit integers, which few shaders of games have, and without
/// large arrays in workgroup memory.
const SIMPLER: [&str; 2] = ["int64=off", "int64=off,output=storage"];

impl Tuning {
    /// The settings for a device with these limits.
    pub fn config(&self, limits: &wgpu::Limits) -> Config {
        let mut config = Config::for_limits(limits);
        for (key, value) in &self.0 {
            config.set(key, value).expect("every setting was tried when it was read");
        }
        config
    }

    /// What to try in turn where shaders do not compile or compute wrongly: this, then what leaves out of them what compilers
    /// are known to err with, each only where it makes a difference. Where something is set, that alone: whoever has set it
    /// wants to know.
    pub fn variants(&self, workgroup_bytes: u32, int64: bool) -> Vec<Self> {
        let limits =
            wgpu::Limits { max_compute_workgroup_storage_size: workgroup_bytes, ..Default::default() };
        let mut variants = vec![self.clone()];
        if !self.0.is_empty() {
            return variants;
        }
        for settings in SIMPLER {
            let simpler: Self = settings.parse().expect("settings of this program's own");
            let effect = |tuning: &Self| {
                let config = tuning.config(&limits);
                Config {
                    options: Options { int64: config.options.int64 && int64, ..config.options },
                    ..config
                }
            };
            if variants.iter().all(|other| effect(other) != effect(&simpler)) {
                variants.push(simpler);
            }
        }
        variants
    }

    /// Soft nonces that are searched at a time, if that is set.
    pub fn states(&self) -> Option<u32> {
        self.config(&wgpu::Limits::default()).states
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&settings.join(","))
    }
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut config = Config::for_limits(&wgpu::Limits::default());
        let mut settings = Vec::new();
        for part in text.split(',') {
            let setting = part.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            let (key, value) =
                setting.ok_or_else(|| format!("{part:?} is not KEY=VALUE; there are {KEYS}"))?;
            config.set(key, value).map_err(|wrong| format!("{key}={value}: {wrong}"))?;
            settings.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(settings))
    }
}

impl Config {
    /// What is thought to be best.
    fn for_limits(limits: &wgpu::Limits) -> Self {
        Self {
            options: Options { int64: true, unchecked: false, loop_bounds: true },
            execute: ExecuteConfig::for_limits(limits),
            finish: FinishConfig::default(),
            search: SearchTuning::default(),
            states: None,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "int64" => self.options.int64 = switch(value)?,
            "unchecked" => self.options.unchecked = switch(value)?,
            "loop-bounds" => self.options.loop_bounds = switch(value)?,
            "execute-lanes" => self.execute.lanes = lanes(value)?,
            "output" => {
                self.execute.output = match value {
                    "workgroup" => OutputPlace::Workgroup,
                    "storage" => OutputPlace::Storage,
                    _ => return Err("it is workgroup or storage".into()),
                }
            }
            "registers" => {
                self.execute.registers = match value.split_once(':') {
                    None if value == "storage" => RegisterPlace::Storage,
                    Some(("workgroup", rows)) => RegisterPlace::Workgroup(number(rows, 1..=512)?),
                    Some(("private", rows)) => RegisterPlace::Private(number(rows, 1..=512)?),
                    _ => return Err("it is storage, workgroup:ROWS or private:ROWS".into()),
                }
            }
            "finish-lanes" => self.finish.lanes = lanes(value)?,
            "finish-sorted" => self.finish.sorted = switch(value)?,
            "advance-lanes" => self.search.advance_workgroup = lanes(value)?,
            "hash-lanes" => self.search.hash_workgroup = lanes(value)?,
            "assemble-lanes" => self.search.assemble_workgroup = lanes(value)?,
            "tile" => self.search.tile = number(value, 0..=8192)?,
            "chacha-loop" => self.search.chacha_loop = switch(value)?,
            "mixed-rows" => self.search.mixed_rows = switch(value)?,
            "states" => self.states = Some(number(value, 64..=1 << 22)?),
            _ => return Err(format!("there is no such key; there are {KEYS}")),
        }
        Ok(())
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is on or off".into()),
    }
}

fn number(value: &str, range: std::ops::RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("it is a number from {} to {}", range.start(), range.end()))
}

fn lanes(value: &str) -> Result<u32, String> {
    let lanes = value.parse().ok().filter(|lanes| LANES.contains(lanes));
    lanes.ok_or_else(|| format!("it is one of {LANES:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_changes_something() {
        let settings = "int64=off, unchecked=on,loop-bounds=off,execute-lanes=16,output=storage,registers=private:100,\
                        finish-lanes=32,finish-sorted=off,advance-lanes=128,hash-lanes=16,assemble-lanes=32,\
                        tile=0,chacha-loop=on,mixed-rows=on,states=4096";
        assert_eq!(settings.split(',').count(), KEYS.split(", ").count());
        let limits = wgpu::Limits { max_compute_workgroup_storage_size: 49152, ..Default::default() };
        let default = Tuning::default().config(&limits);
        for setting in settings.split(',') {
            let tuning: Tuning = setting.parse().expect(setting);
            assert_ne!(tuning.config(&limits), default, "{setting}");
        }
        let all: Tuning = settings.parse().expect("all of them");
        assert_eq!(all.states(), Some(4096));
        assert_eq!(all.config(&limits).execute.registers, RegisterPlace::Private(100));
    }

    #[test]
    fn variants_ask_less_and_less_of_a_compiler_and_differ_on_the_device() {
        let variants = |tuning: &str, workgroup, int64| -> Vec<String> {
            let tuning = if tuning.is_empty() { Tuning::default() } else { tuning.parse().expect(tuning) };
            tuning.variants(workgroup, int64).iter().map(Tuning::to_string).collect()
        };
        assert_eq!(variants("", 32768, true), ["", "int64=off", "int64=off,output=storage"]);
        assert_eq!(variants("", 32768, false), ["", "int64=off,output=storage"]);
        assert_eq!(variants("", 16384, true), ["", "int64=off"], "its output is in storage anyway");
        assert_eq!(variants("", 16384, false), [""]);
        assert_eq!(variants("int64=on", 32768, true), ["int64=on"], "the user has chosen");
        assert_eq!(variants("tile=64,states=128", 32768, true), ["tile=64,states=128"]);
    }

    #[test]
    fn nonsense_is_refused_with_what_there_is() {
        for (nonsense, expected) in [
            ("", "not KEY=VALUE; there are int64="),
            ("speed=11", "there is no such key; there are int64="),
            ("execute-lanes=48", "it is one of [16, 32"),
            ("tile=-1", "it is a number from 0 to 8192"),
            ("registers=private", "it is storage, workgroup:ROWS"),
            ("int64=on,unchecked=maybe", "unchecked=maybe: it is on or off"),
        ] {
            let error = nonsense.parse::<Tuning>().expect_err(nonsense);
            assert!(error.contains(expected), "{error}");
        }
    }
}
