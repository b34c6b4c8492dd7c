//! `pktmine tune`: find the settings with which this machine mines fastest, and keep them.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Exit, UsageError,
    ann::Backend,
    bench::{Bar, stop_on_signal},
    parse_period, print,
};
use crate::{
    backend::Which,
    bench,
    config::{self, ConfigError, Editor, Layers, Resolved, Tuned},
    report::{Table, scaled},
    tune::{
        self, Choice, Conditions, Machine, Track,
        search::{self, Comparison, Found, Gain, SearchError, Trial, Verdict},
    },
};

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Candidates come from the machine: kernels, threads (one for each core, one less, as many as the caches have room for), \
teams, and on GPUs rounds at once and settings of passes. Each is held against the best so far in pairs of turns right \
after each other, over the same rounds. It is taken if the median pair is faster by 1 % at least and chance would make \
the pairs look like that in one of 32 cases at most (Wilcoxon's signed-rank test, 5 to 8 pairs); a tie goes to the \
defaults. At the end the best is held against the defaults in the same way, and that gain is told.

What is found goes into the table [tuned] of the settings file, which `pktmine ann` uses where neither the file itself \
nor a variable nor a flag says otherwise. It holds for this version, processor, caches, kernels, devices and drivers: \
where any of it has changed, `ann` says so and mines with the defaults. If nothing is better than the defaults, the \
table is taken away. Machines of a kind can share a file; on others its table is void.

Ctrl-C ends it, and nothing has changed. Nothing else should run meanwhile, `pktmine ann` least of all.")]
pub struct Arguments {
    /// What mines [default: what the settings of `ann` say, or else auto]
    #[arg(long, value_enum, value_name = "WHAT")]
    backend: Option<Backend>,

    /// GPUs that mine, as for `ann` [default: what the settings of `ann` say, or else all graphics cards]
    #[arg(long, value_name = "LIST")]
    device: Option<String>,

    /// The difficulty that is mined at
    #[arg(short, long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(2..))]
    difficulty: u64,

    /// How long it may take in all
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = parse_period)]
    duration: Duration,

    /// The settings file to write to [default: the one that `ann` reads, or else the user's own]
    #[arg(short, long, value_name = "FILE")]
    config: Option<String>,

    /// Write nothing, only show what would be written
    #[arg(long)]
    dry_run: bool,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. `definition` is the whole program's, whose settings the file has.
pub fn run(arguments: &Arguments, definition: &clap::Command) -> anyhow::Result<Exit> {
    let (resolved, file) = settings_of_ann(arguments, definition)
        .map_err(|ConfigError(problems)| UsageError(problems.join("\npktmine: ")))?;
    let value = |key: &str| resolved.get(key)?.values.first()?.to_str();
    let which = match arguments.backend {
        Some(backend) => backend.into(),
        None => match value("backend") {
            Some("cpu") => Which::Cpu,
            Some("gpu") => Which::Gpu,
            _ => Which::Auto,
        },
    };
    if which == Which::Cpu && arguments.device.is_some() {
        return Err(UsageError("--device is for GPUs: leave --backend cpu away".into()).into());
    }
    let device = arguments.device.as_deref().or_else(|| value("device"));
    let machine = Machine::here(which, device).map_err(|error| UsageError(format!("--device: {error}")))?;
    // Whether the file can be written is known before anything is measured.
    let editor = match (&file, arguments.dry_run) {
        (_, true) => None,
        (Some(file), false) => Some(Editor::open(file)?),
        (None, false) => {
            let text = "there is no file to write to: name one with --config FILE, or see what is found with --dry-run";
            return Err(UsageError(text.into()).into());
        }
    };
    let here = bench::Machine::here();
    if here.load > 0.2 * here.processors as f64 {
        tracing::warn!(
            "this machine is busy (load {:.1}): what is found is what is best beside that; better let nothing else run",
            here.load
        );
    }

    let stopper = stop_on_signal()?;
    let bar = Bar::new();
    let dimensions = tune::dimensions(&machine);
    let watch = Box::new(|progress: &bench::Progress| bar.show(progress));
    let mut track = Track::new(&machine, arguments.difficulty, arguments.duration, stopper, watch);
    let found = search::search(&mut track, Choice::default(), &dimensions, machine.which, arguments.duration);
    drop(track);
    bar.clear();
    let found = found.map_err(|error| match error {
        SearchError::TooShort { .. } => UsageError(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    let outcome = Outcome {
        arguments,
        here: &here,
        tuned: tuned(&found, &machine, arguments.difficulty),
        ignored: ignored(&resolved),
        found,
    };
    // What was found is not lost if the file cannot be written.
    let written = editor.as_ref().map(|editor| editor.write(outcome.tuned.as_ref())).transpose();
    let changed = written.as_ref().ok().copied().flatten().unwrap_or(false);
    let file = editor.as_ref().map(|editor| editor.path().display().to_string());
    let text = if arguments.json {
        format!("{:#}\n", outcome.json(file.as_deref(), changed))
    } else {
        outcome.text(file.as_deref(), changed)
    };
    print(text)?;
    written?;
    Ok(Exit::Done)
}

/// What `ann` would mine with, and the file that it reads or would read.
fn settings_of_ann(
    arguments: &Arguments,
    definition: &clap::Command,
) -> Result<(Resolved, Option<PathBuf>), ConfigError> {
    let variable = || std::env::var("PKTMINE_CONFIG").ok();
    let named = arguments.config.clone().or_else(variable);
    // One that is named and is not there is made.
    let missing = named.as_ref().filter(|name| !name.is_empty() && !PathBuf::from(name).exists());
    let config = if missing.is_some() { Some("") } else { arguments.config.as_deref() };
    let resolved = Layers::of_ann(definition, config)?.resolve()?;
    let file = match (&resolved.file, &named) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(name)) => Some(PathBuf::from(name)).filter(|name| !name.as_os_str().is_empty()),
        (None, None) => config::own_file(),
    };
    Ok((resolved, file))
}

/// What is to be kept; `None` if nothing is better than the defaults.
fn tuned(found: &Found<Choice>, machine: &Machine, difficulty: u64) -> Option<Tuned> {
    let comparison = found.comparison.as_ref().filter(|comparison| comparison.is_better)?;
    let time = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    let remarks = vec![
        format!("Found by `pktmine tune` at {time}, difficulty {difficulty}:"),
        format!(
            "{} instead of {}, {}.",
            scaled(comparison.after),
            scaled(comparison.before),
            gain(comparison)
        ),
    ];
    Some(Tuned { settings: found.best.settings(), conditions: Conditions::of(machine), remarks })
}

/// What the user gives already, so that what is found for the same devices is not used.
fn ignored(resolved: &Resolved) -> Vec<String> {
    let shown = |setting: &&config::Setting| format!("{} ({})", setting.key, setting.origin);
    resolved.against_tuning().iter().map(shown).collect()
}

/// "+7.2 % (from +5.9 % to +8.3 % in 8 pairs)".
fn gain(comparison: &Comparison) -> String {
    let Some(Gain { median, least, most, pairs }) = Gain::of(&comparison.ratios) else {
        return "nothing".into();
    };
    format!("{} (from {} to {} in {pairs} pairs)", percent(median), percent(least), percent(most))
}

fn percent(part: f64) -> String {
    format!("{:+.1} %", part * 100.0)
}

/// What is told at the end.
struct Outcome<'a> {
    arguments: &'a Arguments,
    here: &'a bench::Machine,
    tuned: Option<Tuned>,
    ignored: Vec<String>,
    found: Found<Choice>,
}

impl Outcome<'_> {
    fn text(&self, file: Option<&str>, changed: bool) -> String {
        let Self { here, found, .. } = self;
        let mut lines = vec![
            format!("{}, {}, load {:.1} before", here.processor, here.processors_text(), here.load),
            format!(
                "{} with the defaults at difficulty {}",
                scaled(found.default_rate),
                self.arguments.difficulty
            ),
            String::new(),
        ];
        let mut table = Table::new(["candidate", "pairs", "median", "from", "to", ""]);
        found.trials.iter().for_each(|trial| table.row(row(trial)));
        if !table.is_empty() {
            lines.extend([table.to_string(), "Each against the best so far.".into()]);
        }
        if !found.untried.is_empty() {
            lines.push(format!(
                "Not tried for want of time (--duration gives more): {}.",
                found.untried.join(", ")
            ));
        }
        let comparison = found.comparison.as_ref();
        match (&self.tuned, comparison) {
            (Some(tuned), Some(comparison)) => {
                let settings: Vec<_> =
                    tuned.settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                lines.push(format!(
                    "\n{}: {} instead of {} with the defaults,\n{}.",
                    settings.join(", "),
                    scaled(comparison.after),
                    scaled(comparison.before),
                    gain(comparison)
                ));
            }
            (_, Some(comparison)) => lines.push(format!(
                "\nNothing is better than the defaults: what was taken first came to {}.",
                gain(comparison)
            )),
            _ => lines.push("\nNothing is better than the defaults.".into()),
        }
        lines.push(match (file, &self.tuned) {
            (Some(file), Some(_)) if changed => {
                format!("Written to {file}; `pktmine ann` uses it from now on.")
            }
            (Some(file), Some(_)) => format!("Not written to {file}."),
            (Some(file), None) if changed => format!("The settings tuned before were taken out of {file}."),
            (Some(_), None) => "There was nothing to change.".into(),
            (None, Some(tuned)) => format!("Nothing was written. It would be\n\n{}", tuned.text().trim_end()),
            (None, None) => "Nothing was written.".into(),
        });
        if self.tuned.is_some() && !self.ignored.is_empty() {
            lines.push(format!(
                "`ann` does not use what is tuned for the same devices as {}, which the settings give: take it out.",
                self.ignored.join(", ")
            ));
        }
        lines.join("\n") + "\n"
    }

    fn json(&self, file: Option<&str>, changed: bool) -> Value {
        let Self { arguments, here, tuned, ignored, found } = self;
        let trial = |trial: &Trial| {
            let (verdict, reason) = match &trial.verdict {
                Verdict::Taken => ("taken", None),
                Verdict::NotBetter => ("not better", None),
                Verdict::Unusable(why) => ("unusable", Some(why)),
            };
            json!({ "candidate": trial.what, "ratios": trial.ratios, "verdict": verdict, "reason": reason })
        };
        let comparison = found.comparison.as_ref().map(|comparison| {
            let gain = Gain::of(&comparison.ratios);
            json!({
                "defaults_e_per_s": comparison.before,
                "best_e_per_s": comparison.after,
                "ratios": comparison.ratios,
                "gain": gain.map(|gain| gain.median),
                "gain_least": gain.map(|gain| gain.least),
                "gain_most": gain.map(|gain| gain.most),
                "is_better": comparison.is_better,
            })
        });
        let settings = tuned.as_ref().map(|tuned| {
            let pairs = tuned.settings.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into()));
            Value::Object(pairs.collect())
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": here,
            "difficulty": arguments.difficulty,
            "duration": arguments.duration.as_secs_f64(),
            "defaults_e_per_s": found.default_rate,
            "trials": found.trials.iter().map(trial).collect::<Vec<_>>(),
            "untried": found.untried,
            "comparison": comparison,
            "tuned": settings,
            "given_by_user": ignored,
            "file": file,
            "file_changed": changed,
        })
    }
}

fn row(trial: &Trial) -> [String; 6] {
    let result = match &trial.verdict {
        Verdict::Taken => "taken".to_owned(),
        Verdict::NotBetter => String::new(),
        Verdict::Unusable(why) => why.clone(),
    };
    let gain = Gain::of(&trial.ratios);
    let shown = |part: fn(&Gain) -> f64| gain.as_ref().map_or("-".into(), |gain| percent(part(gain)));
    [
        trial.what.clone(),
        trial.ratios.len().to_string(),
        shown(|gain| gain.median),
        shown(|gain| gain.least),
        shown(|gain| gain.most),
        result,
    ]
}
