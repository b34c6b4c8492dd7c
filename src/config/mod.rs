//! Settings in layers: flags win over `PKTMINE_*` variables, those over a file, that over what `pktmine tune` has found,
//! and that over the defaults.
//!
//! There is one definition of a setting: the flag. Whatever flag a command has is a key of the file (its long name),
//! a variable (`PKTMINE_` and that name in capitals), and checked by the same parser wherever it comes from: what
//! the lower layers say is put into the command line as if it had been typed, where it was not.

mod edit;
mod file;
mod json;
mod tuned;
mod watch;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::BoolishValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use etcetera::BaseStrategy;

pub use edit::{EditError, Editor, Tuned};
use file::{Given, Part, Position, Problem};
pub use watch::watch;

use crate::{
    backend::Which,
    plain::plain,
    tune::{Conditions, Machine},
};

/// The name of the file.
pub const FILE_NAME: &str = "pktmine.toml";

/// What a variable's name begins with.
const PREFIX: &str = "PKTMINE_";

/// Commands whose flags have a table of their own in the file; those of `ann` are its top level.
const TABLES: [&str; 2] = ["pool", "bench"];

/// Settings that `config print` keeps to itself.
const SECRETS: [&str; 1] = ["http-token"];

/// Flags that say where settings are, and which of them `config print` shows: no settings themselves.
const NO_SETTINGS: [&str; 2] = ["config", "only"];

/// How like two names must be for one to be taken for the other mistyped.
const ALIKE: f64 = 0.75;

/// Where a value comes from, the lowest layer first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// What `pktmine tune` has found for this machine.
    Tuned {
        /// The file that it is in.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A file, and the line if it has lines that matter.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Variable(String),
    /// The command line.
    Flag,
}

impl Origin {
    fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Tuned { .. } => 1,
            Self::File { .. } => 2,
            Self::Variable(_) => 3,
            Self::Flag => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Tuned { path, line } => write!(f, "tuned, {}, line {line}", path.display()),
            Self::File { path, line: Some(line) } => write!(f, "{}, line {line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// All that is wrong with the settings, each with its place and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl ConfigError {
    /// Of problems that may have the file's words in them.
    fn new(problems: impl IntoIterator<Item = String>) -> Self {
        Self(problems.into_iter().map(|problem| plain(&problem)).collect())
    }
}

/// One setting of a command, as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag's long name, or the name of what is typed without a flag.
    pub key: String,
    /// What it means, in a line.
    pub help: String,
    /// Its value, or its values; none if it has no default and nobody gave one.
    pub values: Vec<OsString>,
    /// Whether it takes a list.
    pub is_list: bool,
    /// Whether it is not to be shown.
    pub is_secret: bool,
    /// The file that holds the value, where the settings name one.
    pub held_by: Option<PathBuf>,
    /// Who gave the value.
    pub origin: Origin,
    /// Whether it is what it would be if nobody had given it: a switch that is off excludes no other setting.
    is_default: bool,
}

/// What all layers together say.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The whole program's arguments, as if all had been typed.
    pub matches: ArgMatches,
    /// Each setting, in the order of the command's definition.
    pub settings: Vec<Setting>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// All files that say something, or would if they were there.
    pub watched: Vec<PathBuf>,
    /// What may not be what the user meant.
    pub warnings: Vec<String>,
    /// What is worth knowing: what is used of tuned settings.
    pub notes: Vec<String>,
}

impl Resolved {
    /// The keys whose values are not those of `other`.
    pub fn changed(&self, other: &Self) -> Vec<&str> {
        let pairs = self.settings.iter().zip(&other.settings);
        pairs.filter(|(new, old)| new.values != old.values).map(|(new, _)| new.key.as_str()).collect()
    }

    /// A setting, by its key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// What the user says of what can be tuned: it wins over whatever is found for the same devices.
    pub fn against_tuning(&self) -> Vec<&Setting> {
        let given = |setting: &&Setting| setting.origin.layer() > 1;
        self.settings.iter().filter(given).filter(|one| !tuned::together_with(&one.key).is_empty()).collect()
    }
}

/// The layers of one command's settings. They can be put together again when the file has changed.
#[derive(Clone, Debug)]
pub struct Layers {
    program: Command,
    /// The names of the command and of what it is part of.
    path: Vec<&'static str>,
    /// What was typed for the command.
    typed: ArgMatches,
    variables: BTreeMap<String, OsString>,
    /// What is so on this machine, with this of its devices.
    conditions: fn(Which, Option<&str>) -> Option<Conditions>,
}

/// What is so here, for tuned settings; `None` if the user means a device that is not there, which is told elsewhere.
fn conditions_here(which: Which, device: Option<&str>) -> Option<Conditions> {
    Machine::here(which, device).ok().map(|machine| Conditions::of(&machine))
}

/// Makes every switch of the commands that have settings one that can be switched off, too: `--json=false` wins over
/// a file's `json = true`.
pub fn with_switches(program: Command) -> Command {
    let switch = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("BOOL")
            .default_value("false")
            .default_missing_value("true")
            .value_parser(BoolishValueParser::new())
            .hide_default_value(true)
            .hide_possible_values(true),
        _ => arg,
    };
    let has_settings = |name: &str| name == "ann" || name == "print" || TABLES.contains(&name);
    program.mut_subcommands(|command| {
        let command = command.mut_subcommands(|inner| match has_settings(inner.get_name()) {
            true => inner.mut_args(switch),
            false => inner,
        });
        if has_settings(command.get_name()) { command.mut_args(switch) } else { command }
    })
}

impl Layers {
    /// The layers of the command that was typed, if it is one that has settings.
    pub fn of(program: &Command, typed: &ArgMatches) -> Option<Self> {
        let mut program = program.clone();
        program.build();
        let (name, matches) = typed.subcommand()?;
        let (path, matches) = match (name, matches.subcommand()) {
            ("ann", _) => (vec!["ann"], matches),
            ("config", Some(("print", inner))) => (vec!["config", "print"], inner),
            _ => (vec![*TABLES.iter().find(|table| **table == name)?], matches),
        };
        let typed = matches.clone();
        Some(Self { program, path, typed, variables: variables(), conditions: conditions_here })
    }

    /// The layers that `ann` would have if nothing but the name of the file were typed.
    ///
    /// # Errors
    /// If the program takes no such name.
    pub fn of_ann(program: &Command, config: Option<&str>) -> Result<Self, ConfigError> {
        let config = config.map(|name| format!("--config={name}"));
        let line = [program.get_name(), "ann"].map(str::to_owned).into_iter().chain(config);
        let matches = program.clone().try_get_matches_from(line);
        let matches = matches.map_err(|error| ConfigError(vec![reason(&error)]))?;
        Ok(Self::of(program, &matches).expect("`ann` has settings"))
    }

    /// Reads the file that there may be and puts the layers together. Of a file that is about `ann` first of all, commands
    /// that have a table of their own need that alone: what is wrong elsewhere is a warning to them, and so is a file that
    /// nobody named and that cannot be read.
    ///
    /// # Errors
    /// If a file or a variable is wrong, or values contradict each other.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        let typed = ["config"].iter().find_map(|id| self.typed.try_get_one::<String>(id).ok().flatten());
        let named = typed.map(OsString::from).or_else(|| self.variables.get("PKTMINE_CONFIG").cloned());
        let mut file = locate(named.as_deref());
        let mut watched: Vec<_> = match named {
            Some(_) => file.iter().cloned().collect(),
            None => default_files().collect(),
        };
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let mut given = Vec::new();
        let mut tuned = None;
        if let Some(path) = &file {
            match self.read(path, named.is_some(), &mut warnings) {
                Ok(Some(read)) => (given, tuned) = read,
                Ok(None) => file = None,
                Err(ConfigError(found)) => problems.extend(found),
            }
        }
        watched.extend(given.iter().filter_map(|given| given.held_by.clone()));
        if self.table().is_none() {
            given.append(&mut self.variables_given(&mut problems, &mut warnings, &mut watched));
        }
        if !problems.is_empty() {
            return Err(ConfigError::new(problems));
        }
        let mut notes = Vec::new();
        if let (Some(tuned), Some(path)) = (tuned, &file)
            && self.table().is_none()
        {
            warnings.extend(self.add_tuned(tuned, path, &mut given, &mut notes)?);
        }
        let settings = self.merge(&given)?;
        let matches = self.parse(&settings)?;
        Ok(Resolved { matches, settings, file, watched, warnings, notes })
    }

    /// Adds tuned settings to what is given, if they hold with that; says why they do not, if so.
    fn add_tuned(
        &self,
        tuned: tuned::Tuned,
        path: &Path,
        given: &mut Vec<Given>,
        notes: &mut Vec<String>,
    ) -> Result<Option<String>, ConfigError> {
        let settings = self.merge(given)?;
        if let Some(why) = self.void(&tuned, &settings) {
            let (path, line) = (path.display(), tuned.at.line);
            return Ok(Some(format!(
                "{path}, line {line}: the tuned settings are void ({why}), the defaults are used: run `pktmine tune` again"
            )));
        }
        given.extend(self.tuned_given(tuned, path, &settings, notes)?);
        Ok(None)
    }

    /// Why tuned settings do not hold, with what else is set.
    fn void(&self, tuned: &tuned::Tuned, settings: &[Setting]) -> Option<String> {
        let value = |key: &str| settings.iter().find(|setting| setting.key == key)?.values.first()?.to_str();
        let which = match value("backend") {
            Some("cpu") => Which::Cpu,
            Some("gpu") => Which::Gpu,
            _ => Which::Auto,
        };
        let Some(now) = (self.conditions)(which, value("device")) else {
            return Some("what is to mine is not there".into());
        };
        match &tuned.conditions {
            Ok(then) => then.void(&now),
            Err(why) => Some(why.clone()),
        }
    }

    /// What is used of tuned settings that hold.
    fn tuned_given(
        &self,
        tuned: tuned::Tuned,
        path: &Path,
        settings: &[Setting],
        notes: &mut Vec<String>,
    ) -> Result<Vec<Given>, ConfigError> {
        let (mut used, mut problems) = (Vec::new(), Vec::new());
        for (given, Position { line, column }) in tuned.settings {
            let stronger = settings.iter().find(|setting| {
                setting.origin != Origin::Default
                    && tuned::together_with(&given.key).contains(&setting.key.as_str())
            });
            let known = settings_of(self.command()).find(|(key, _)| *key == given.key);
            let checked = known.map_or_else(
                || Err(format!("`pktmine {}` has no such flag", self.command().get_name())),
                |(_, arg)| check(self.command(), arg, &given.values),
            );
            let shown =
                given.values.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(" ");
            match (checked, stronger) {
                (Err(why), _) => problems.push(format!(
                    "{}, line {line}, column {column}: {}: {why}",
                    path.display(),
                    given.key
                )),
                (Ok(()), Some(stronger)) => notes.push(format!(
                    "tuned {} = {shown} is not used: {} is given ({})",
                    given.key, stronger.key, stronger.origin
                )),
                (Ok(()), None) => {
                    notes.push(format!("{} = {shown} ({})", given.key, given.origin));
                    used.push(given);
                }
            }
        }
        if problems.is_empty() { Ok(used) } else { Err(ConfigError::new(problems)) }
    }

    /// The file's table that the command's settings are in; `None`: its top level.
    fn table(&self) -> Option<&str> {
        self.path.first().copied().filter(|name| TABLES.contains(name))
    }

    fn command(&self) -> &Command {
        find(&self.program, &self.path).expect("it was typed, so it exists")
    }

    /// Reads what a file says to the command; `None` if it cannot be read and is not needed.
    fn read(
        &self,
        path: &Path,
        is_named: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Said>, ConfigError> {
        let text = match (file::load(path), self.table()) {
            (Ok(text), _) => text,
            (Err(why), Some(table)) if !is_named => {
                let path = path.display();
                warnings.push(plain(&format!(
                    "{path}: it cannot be read ({why}), so nothing is known of its table [{table}]"
                )));
                return Ok(None);
            }
            (Err(why), Some(_)) => {
                let remedy = "name another with PKTMINE_CONFIG=FILE, or none with PKTMINE_CONFIG=''";
                return Err(unreadable(path, &why, remedy));
            }
            (Err(why), None) => return Err(unreadable(path, &why, REMEDY)),
        };
        let Contents { given, tuned, problems } = read_text(&self.program, path, &text);
        let (mut ours, others): (Vec<_>, Vec<_>) = problems.into_iter().partition(|problem| {
            let Part::Table(table) = &problem.part else { return true };
            self.table().is_none() || self.table() == table.as_deref()
        });
        if !ours.is_empty() {
            let mut told = told(path, &mut ours);
            if let Some(table) = self.table() {
                told.push(format!("mend it, or leave the file out: PKTMINE_CONFIG='' pktmine {table}"));
            }
            return Err(ConfigError::new(told));
        }
        if let Some(table) = self.table() {
            let mut others = others;
            let told = told(path, &mut others);
            warnings
                .extend(told.iter().map(|told| plain(&format!("{told} (not in [{table}], so left alone)"))));
        }
        let given = given.into_iter().filter(|given| given.table.as_deref() == self.table()).collect();
        Ok(Some((given, tuned)))
    }

    fn variables_given(
        &self,
        problems: &mut Vec<String>,
        warnings: &mut Vec<String>,
        watched: &mut Vec<PathBuf>,
    ) -> Vec<Given> {
        let args: Vec<_> = settings_of(self.command()).collect();
        let names: BTreeMap<_, _> = args
            .iter()
            .flat_map(|(key, arg)| names_of(key, arg).map(|name| (variable(name), (*key, *arg))))
            .collect();
        let mut all = Vec::new();
        for (name, value) in &self.variables {
            let in_file = name.strip_suffix("_FILE").filter(|_| !names.contains_key(name));
            let Some((key, arg)) = names.get(in_file.unwrap_or(name)) else {
                // Without what all begin with, or else all would be alike.
                let known = names.keys().map(|known| &known[PREFIX.len()..]);
                // Not an error as in a file: anything may set variables, for anything that is called so.
                if name != "PKTMINE_CONFIG" && !is_of_a_cluster(name) {
                    let remedy = match nearest(&name[PREFIX.len()..], known) {
                        Some(meant) => format!("did you mean {PREFIX}{meant}?"),
                        None => "`pktmine config print` names all that there are".into(),
                    };
                    warnings.push(format!("the variable {name} means nothing here: {remedy}"));
                }
                continue;
            };
            let value = match in_file {
                None => Ok(value.clone()),
                Some(_) => {
                    watched.push(value.into());
                    file::read_value(Path::new(value)).map(OsString::from)
                }
            };
            let checked = value.and_then(|value| {
                let values = match value.to_str() {
                    Some(text) if is_list(arg) && arg.get_value_delimiter().is_none() => {
                        let parts = text.split([',', ' ', '\n', '\t']).filter(|part| !part.is_empty());
                        parts.map(OsString::from).collect()
                    }
                    _ => vec![value],
                };
                check(self.command(), arg, &values).map(|()| values)
            });
            match checked {
                Ok(values) => all.push(Given {
                    table: None,
                    key: (*key).to_owned(),
                    values,
                    held_by: None,
                    origin: Origin::Variable(name.clone()),
                }),
                Err(why) => problems.push(format!("variable {name}: {why}")),
            }
        }
        all
    }

    /// One value for each setting, that of the highest layer.
    fn merge(&self, given: &[Given]) -> Result<Vec<Setting>, ConfigError> {
        let mut settings: Vec<_> = settings_of(self.command())
            .map(|(key, arg)| {
                let id = arg.get_id().as_str();
                let typed = self.typed.value_source(id) == Some(ValueSource::CommandLine);
                let mut setting = Setting {
                    key: key.to_owned(),
                    help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
                    values: arg.get_default_values().iter().map(Into::into).collect(),
                    is_list: is_list(arg),
                    is_secret: SECRETS.contains(&key),
                    held_by: None,
                    origin: Origin::Default,
                    is_default: true,
                };
                let candidates = given.iter().filter(|given| given.key == key);
                if typed {
                    setting.origin = Origin::Flag;
                    setting.values = match arg.get_action() {
                        ArgAction::Count => vec![self.typed.get_count(id).to_string().into()],
                        _ => self.typed.get_raw(id).into_iter().flatten().map(Into::into).collect(),
                    };
                } else if let Some(highest) = candidates.max_by_key(|given| given.origin.layer()) {
                    setting.values.clone_from(&highest.values);
                    setting.origin = highest.origin.clone();
                    setting.held_by.clone_from(&highest.held_by);
                }
                if is_switch(arg) {
                    setting.values = setting.values.iter().map(|value| plain_switch(value)).collect();
                }
                setting.is_default = setting.values.iter().eq(arg.get_default_values());
                setting
            })
            .collect();
        self.drop_contradicted(&mut settings)?;
        Ok(settings)
    }

    /// Where two settings exclude each other, that of the higher layer wins, but for what a command is about: it is
    /// not given up because of a flag.
    fn drop_contradicted(&self, settings: &mut [Setting]) -> Result<(), ConfigError> {
        let command = self.command();
        for (key, arg) in settings_of(command) {
            for other in command.get_arg_conflicts_with(arg) {
                let place = |key: &str| settings.iter().position(|setting| setting.key == key);
                let (Some(one), Some(two)) = (place(key), key_of(other).and_then(place)) else { continue };
                let layer = |place: usize| settings[place].origin.layer();
                let (low, high) = if layer(one) <= layer(two) { (one, two) } else { (two, one) };
                let given = !settings[low].is_default && !settings[high].is_default;
                if !given || layer(low) == layer(high) {
                    continue;
                }
                let low_arg = if low == one { arg } else { other };
                if low_arg.is_positional() {
                    let (low, high) = (&settings[low], &settings[high]);
                    return Err(ConfigError::new([format!(
                        "{} ({}) cannot be used with {} ({}): leave one of them out",
                        high.key, high.origin, low.key, low.origin
                    )]));
                }
                settings[low].values = low_arg.get_default_values().iter().map(Into::into).collect();
                settings[low].origin = Origin::Default;
                settings[low].is_default = true;
            }
        }
        Ok(())
    }

    /// Parses the command line that says what the settings say.
    fn parse(&self, settings: &[Setting]) -> Result<ArgMatches, ConfigError> {
        let mut line: Vec<OsString> = vec![self.program.get_name().into()];
        line.extend(self.path.iter().map(Into::into));
        let mut rest: Vec<OsString> = Vec::new();
        for name in NO_SETTINGS {
            if let Some(value) = self.typed.try_get_one::<String>(name).ok().flatten() {
                line.push(format!("--{name}={value}").into());
            }
        }
        for ((_, arg), setting) in settings_of(self.command()).zip(settings) {
            if !setting.is_default {
                let to = if arg.is_positional() { &mut rest } else { &mut line };
                to.extend(tokens(arg, &setting.values));
            }
        }
        line.push("--".into());
        line.append(&mut rest);
        self.program.clone().try_get_matches_from(line).map_err(|error| ConfigError::new([reason(&error)]))
    }
}

/// Reads a file and checks each of its values, tuned ones only if they hold here: those of another machine can be
/// right there. What is good and yet worth knowing is given back.
///
/// # Errors
/// All that is wrong with it.
pub fn check_file(program: &Command, path: &Path) -> Result<Vec<String>, ConfigError> {
    let mut program = program.clone();
    program.build();
    let text = file::load(path).map_err(|why| unreadable(path, &why, REMEDY))?;
    let (given, tuned) = read_text(&program, path, &text).all_right(path)?;
    let Some(tuned) = tuned else { return Ok(Vec::new()) };
    let layers = Layers { variables: BTreeMap::new(), ..Layers::of_ann(&program, None)? };
    let given: Vec<_> = given.into_iter().filter(|given| given.table.is_none()).collect();
    let (mut given, mut remarks) = (given, Vec::new());
    let void = layers.add_tuned(tuned, path, &mut given, &mut remarks)?;
    Ok(void.into_iter().chain(remarks).collect())
}

/// The `PKTMINE_*` variables.
fn variables() -> BTreeMap<String, OsString> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// Whether Kubernetes or Docker sets a variable for each program beside a service that is called pktmine.
fn is_of_a_cluster(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || ["_TCP", "_UDP"].iter().any(|protocol| name.contains("_PORT_") && name.contains(protocol))
}

/// The user's own file, whether there is one or not.
pub fn own_file() -> Option<PathBuf> {
    let folder = etcetera::choose_base_strategy().ok()?.config_dir().join("pktmine");
    Some(folder.join(FILE_NAME))
}

/// As [`check_file`], of a file whose text is at hand.
///
/// # Errors
/// All that is wrong with it.
pub fn check_text(program: &Command, path: &Path, text: &str) -> Result<(), ConfigError> {
    let mut program = program.clone();
    program.build();
    read_text(&program, path, text).all_right(path).map(|_| ())
}

/// The file to read: the one that is named, none if the name is empty, or else the first of the default ones that is
/// there.
pub fn locate(named: Option<&OsStr>) -> Option<PathBuf> {
    match named {
        Some(name) if name.is_empty() => None,
        Some(name) => Some(name.into()),
        None => default_files().find(|path| path.is_file()),
    }
}

/// The files that are looked for if none is named: the user's own, then the machine's. Never one in the current
/// directory, which may be somebody else's: the file says who is paid.
fn default_files() -> impl Iterator<Item = PathBuf> {
    let machine = cfg!(unix).then(|| Path::new("/etc/pktmine").join(FILE_NAME));
    own_file().into_iter().chain(machine)
}

/// What to do where `ann` cannot read a file.
const REMEDY: &str = "name another with --config FILE (or PKTMINE_CONFIG), or none with --config ''";

fn unreadable(path: &Path, why: &str, remedy: &str) -> ConfigError {
    ConfigError::new([format!("{}: it cannot be read ({why}); {remedy}", path.display())])
}

/// What a file without fault says: settings, and its table of tuned ones.
type Said = (Vec<Given>, Option<tuned::Tuned>);

/// What a file says, as far as it can be understood, and all that is wrong with it.
struct Contents {
    given: Vec<Given>,
    tuned: Option<tuned::Tuned>,
    problems: Vec<Problem>,
}

impl Contents {
    /// What it says, if nothing is wrong.
    fn all_right(mut self, path: &Path) -> Result<Said, ConfigError> {
        match self.problems.is_empty() {
            true => Ok((self.given, self.tuned)),
            false => Err(ConfigError::new(told(path, &mut self.problems))),
        }
    }
}

/// Problems as people are told of them, in the order of the file.
fn told(path: &Path, problems: &mut [Problem]) -> Vec<String> {
    problems.sort_by_key(|problem| problem.at);
    let tell = |Problem { at, text, .. }: &Problem| match at {
        Some(Position { line, column }) => {
            format!("{}, line {line}, column {column}: {text}", path.display())
        }
        None => format!("{}: {text}", path.display()),
    };
    problems.iter().map(tell).collect()
}

fn read_text(program: &Command, path: &Path, text: &str) -> Contents {
    let is_json = path.extension().is_some_and(|name| name == "json") || text.trim_start().starts_with('{');
    if is_json {
        let (given, wrong) = match json::read(path, text) {
            Err(problems) => (Vec::new(), problems),
            Ok(given) => {
                let command = find(program, &["ann"]).expect("there is such a command");
                let wrong = given.iter().filter_map(|given| {
                    let (_, arg) = settings_of(command).find(|(key, _)| *key == given.key)?;
                    let why = check(command, arg, &given.values).err()?;
                    Some(format!("{}: {why}", given.key))
                });
                let wrong = wrong.collect();
                (given, wrong)
            }
        };
        let problem = |text| Problem { at: None, part: Part::Table(None), text };
        return Contents { given, tuned: None, problems: wrong.into_iter().map(problem).collect() };
    }
    let (entries, mut problems) = file::parse(text, path);
    let mut all = Vec::new();
    let is_tuned =
        |entry: &file::Entry| matches!(entry.table.as_deref(), Some(tuned::TABLE | tuned::TUNED_FOR));
    let (tuned, entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_tuned);
    let problem = |at, table: Option<&str>, text| {
        let part = Part::Table(table.map(str::to_owned));
        Problem { at: Some(at), part, text }
    };
    let tuned = tuned::table(tuned, path).unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|(at, text)| problem(at, Some(tuned::TABLE), text)));
        None
    });
    for entry in entries {
        let name = match &entry.table {
            None => "ann",
            Some(table) => match TABLES.iter().find(|known| *known == table) {
                Some(known) if find(program, &[known]).is_some() => known,
                _ => {
                    let meant = nearest(table, TABLES.into_iter()).unwrap_or(table);
                    let text = format!("there is no table [{table}]; {}", tables(program));
                    problems.push(problem(entry.at, Some(meant), text));
                    continue;
                }
            },
        };
        let command = find(program, &[name]).expect("it was just found");
        let known = settings_of(command).find(|(key, arg)| names_of(key, arg).any(|name| name == entry.key));
        let Some((key, arg)) = known else {
            problems.push(problem(entry.at, entry.table.as_deref(), unknown_key(command, &entry.key)));
            continue;
        };
        let values = match entry.values {
            Ok(values) if values.len() != 1 && !is_list(arg) => Err("it takes one value, not a list".into()),
            other => other,
        };
        let checked = values.and_then(|values| check(command, arg, &values).map(|()| values));
        match checked {
            Ok(values) => all.push(Given {
                table: entry.table,
                key: key.to_owned(),
                values,
                held_by: entry.held_by,
                origin: Origin::File { path: path.to_owned(), line: Some(entry.at.line) },
            }),
            Err(why) => {
                let text = format!("{}: {why}", entry.key);
                problems.push(problem(entry.at, entry.table.as_deref(), text));
            }
        }
    }
    Contents { given: all, tuned, problems }
}

fn unknown_key(command: &Command, key: &str) -> String {
    let remedy = match nearest(key, settings_of(command).map(|(key, _)| key)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!(
            "the keys are the long names of the flags that `pktmine {} --help` shows",
            command.get_name()
        ),
    };
    format!("there is no setting `{key}`; {remedy}")
}

fn tables(program: &Command) -> String {
    let known = TABLES.iter().filter(|name| find(program, &[name]).is_some()).chain([&tuned::TABLE]);
    format!("there is {}", known.map(|name| format!("[{name}]")).collect::<Vec<_>>().join(" and "))
}

/// The command with these names, one inside the other.
fn find<'a>(program: &'a Command, path: &[&str]) -> Option<&'a Command> {
    path.iter().try_fold(program, |command, name| command.find_subcommand(name))
}

/// A command's settings: all its arguments but the name of the file itself, and those that only show something.
fn settings_of(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command.get_arguments().filter_map(|arg| Some((key_of(arg)?, arg)))
}

fn key_of(arg: &Arg) -> Option<&str> {
    let shows = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    let key = if arg.is_positional() { Some(arg.get_id().as_str()) } else { arg.get_long() };
    key.filter(|key| !shows && !NO_SETTINGS.contains(key))
}

/// A setting's key and its other names.
fn names_of<'a>(key: &'a str, arg: &'a Arg) -> impl Iterator<Item = &'a str> {
    arg.get_all_aliases().unwrap_or_default().into_iter().chain([key])
}

/// The name of a setting's variable.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('-', "_"))
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether it is one of [`with_switches`].
fn is_switch(arg: &Arg) -> bool {
    arg.is_require_equals_set() && arg.get_default_values() == ["false"]
}

/// A switch's value, which its parser has taken, as the shortest way to write it.
fn plain_switch(value: &OsStr) -> OsString {
    let on = ["y", "yes", "t", "true", "on", "1"];
    on.contains(&value.to_string_lossy().to_lowercase().as_str()).to_string().into()
}

/// A setting as it would be typed.
fn tokens(arg: &Arg, values: &[OsString]) -> Vec<OsString> {
    let flag = |value: &OsString| {
        let mut token = OsString::from(format!("--{}=", arg.get_long().unwrap_or_default()));
        token.push(value);
        token
    };
    match arg.get_action() {
        ArgAction::Count => {
            let times = values.first().and_then(|value| value.to_str()?.parse::<u8>().ok()).unwrap_or(0);
            vec![format!("--{}", arg.get_long().unwrap_or_default()).into(); times.into()]
        }
        _ if arg.is_positional() => values.to_vec(),
        _ => values.iter().map(flag).collect(),
    }
}

/// Whether a setting can have these values, by the flag's own parser.
fn check(command: &Command, arg: &Arg, values: &[OsString]) -> Result<(), String> {
    if matches!(arg.get_action(), ArgAction::Count) {
        let number = values.first().and_then(|value| value.to_str()?.parse::<u8>().ok());
        return number.map(|_| ()).ok_or_else(|| "it must be a number from 0 to 255".into());
    }
    let mut line = vec![OsString::from(command.get_name())];
    if arg.is_positional() {
        line.push("--".into());
    }
    line.extend(tokens(arg, values));
    match command.clone().try_get_matches_from(line) {
        // What another flag must go with is judged when all are together.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => Err(reason(&error)),
        _ => Ok(()),
    }
}

/// What a parser found wrong, in a line.
fn reason(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    if let Some(source) = std::error::Error::source(error) {
        let why = source.to_string();
        return if why.contains(&value) { why } else { format!("{value:?}: {why}") };
    }
    if error.kind() == ErrorKind::InvalidValue
        && let Some(possible) = text(ContextKind::ValidValue)
    {
        return format!("{value:?} is not one of {possible}");
    }
    let shown = error.render().to_string();
    let shown = shown.strip_prefix("error: ").unwrap_or(&shown);
    shown.split("\n\n").next().unwrap_or_default().trim().to_owned()
}

/// The name that was most likely meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    known
        .map(|known| (strsim::jaro_winkler(&plain(name), &plain(known)), known))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|one, two| one.0.total_cmp(&two.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What layers make of a program with two switches, one of which excludes `verbose`.
    fn resolve(file: &str, typed: &[&str], variables: &[(&str, &str)]) -> Result<ArgMatches, ConfigError> {
        let switch =
            |name: &'static str, short| Arg::new(name).long(name).short(short).action(ArgAction::SetTrue);
        let ann = Command::new("ann")
            .arg(switch("quiet", 'q').conflicts_with("verbose"))
            .arg(switch("json", 'j').visible_alias("lines"))
            .arg(Arg::new("config").long("config"))
            .arg(Arg::new("pools").action(ArgAction::Append));
        let verbose = Arg::new("verbose").short('v').long("verbose").action(ArgAction::Count).global(true);
        let mut program = with_switches(Command::new("pktmine").arg(verbose).subcommand(ann));
        program.build();
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        std::fs::write(&path, file).expect("it can be written");
        let config = format!("--config={}", path.display());
        let line = ["pktmine", "ann", &config].into_iter().chain(typed.iter().copied());
        let matches = program.clone().try_get_matches_from(line).expect("a good command line");
        let (_, typed) = matches.subcommand().expect("ann");
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let typed = typed.clone();
        let layers = Layers { program, path: vec!["ann"], typed, variables, conditions: |_, _| None };
        let resolved = layers.resolve()?;
        Ok(resolved.matches.subcommand().expect("ann").1.clone())
    }

    fn flags(matches: &ArgMatches) -> (bool, bool, u8) {
        (matches.get_flag("quiet"), matches.get_flag("json"), matches.get_count("verbose"))
    }

    #[test]
    fn a_switch_that_is_off_excludes_nothing() {
        let matches = resolve("quiet = false\nverbose = 2\n", &["--json=no"], &[]).expect("it is good");
        assert_eq!(flags(&matches), (false, false, 2));
    }

    #[test]
    fn a_setting_gives_way_to_one_of_a_higher_layer_that_excludes_it() {
        let matches = resolve("quiet = true\n", &["-jv"], &[]).expect("it is good");
        assert_eq!(flags(&matches), (false, true, 1), "short flags can stand together");
        let matches = resolve("verbose = 1\n", &[], &[("PKTMINE_QUIET", "on")]).expect("it is good");
        assert_eq!(flags(&matches), (true, false, 0));
        let error = resolve("verbose = 1\nquiet = true\n", &[], &[]).expect_err("they are of one layer");
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }

    #[test]
    fn other_names_of_a_flag_are_keys_and_variables_too() {
        assert_eq!(flags(&resolve("lines = true\n", &[], &[]).expect("it is good")), (false, true, 0));
        let by_variable = resolve("json = false\n", &[], &[("PKTMINE_LINES", "1")]);
        assert_eq!(flags(&by_variable.expect("it is good")), (false, true, 0));
    }

    #[test]
    fn values_that_look_like_flags_are_values() {
        let matches = resolve("pools = ['--quiet', '-v']\n", &[], &[]).expect("it is good");
        assert_eq!(flags(&matches), (false, false, 0));
        assert_eq!(matches.get_many::<String>("pools").expect("a list").len(), 2);
    }

    const TUNED: &str = "[tuned]\nthreads = 3\nteam = 2\ngpu-rounds = 64\n[tuned.for]\nversion = '1'\n\
                         processor = 'A'\nprocessors = 4\ncaches = []\nkernels = []\ndevices = ['cpu', 'X']\n";

    /// What layers make of a file for a program that has what can be tuned, on a machine that has a GPU.
    fn resolve_tuned(file: &str, typed: &[&str]) -> Result<Resolved, ConfigError> {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let number = |name| flag(name).value_parser(clap::value_parser!(u32).range(1..));
        let ann = Command::new("ann").args([number("threads"), number("team"), number("gpu-rounds")]);
        let ann = ann.args([flag("backend").default_value("auto"), flag("device"), flag("config")]);
        let mut program = Command::new("pktmine").subcommand(ann);
        program.build();
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        std::fs::write(&path, file).expect("it can be written");
        let config = format!("--config={}", path.display());
        let line = ["pktmine", "ann", &config].into_iter().chain(typed.iter().copied());
        let matches = program.clone().try_get_matches_from(line).expect("a good command line");
        let layers = Layers::of(&program, &matches).expect("`ann` has settings");
        let conditions = |which, device: Option<&str>| {
            let devices: &[&str] = match which {
                Which::Cpu => &["cpu"],
                Which::Gpu => &["X"],
                Which::Auto => &["cpu", "X"],
            };
            (device != Some("nowhere")).then(|| Conditions {
                version: "1".into(),
                processor: "A".into(),
                processors: 4,
                caches: Vec::new(),
                kernels: Vec::new(),
                devices: devices.iter().map(|device| (*device).into()).collect(),
            })
        };
        Layers { variables: BTreeMap::new(), conditions, ..layers }.resolve()
    }

    fn origins(resolved: &Resolved) -> Vec<String> {
        let values = resolved.settings.iter().filter_map(|setting| {
            let origin = match &setting.origin {
                Origin::Tuned { line, .. } => format!("tuned {line}"),
                Origin::File { .. } => "file".into(),
                Origin::Flag => "flag".into(),
                _ => return None,
            };
            Some(format!("{}={} {origin}", setting.key, setting.values[0].display()))
        });
        values.collect()
    }

    #[test]
    fn tuned_settings_are_a_layer_above_the_defaults() {
        let resolved = resolve_tuned(TUNED, &[]).expect("it is good");
        assert_eq!(origins(&resolved), ["threads=3 tuned 2", "team=2 tuned 3", "gpu-rounds=64 tuned 4"]);
        assert!(resolved.warnings.is_empty() && resolved.notes.len() == 3, "{resolved:?}");
        let ann = resolved.matches.subcommand().expect("ann").1;
        assert_eq!(ann.get_one::<u32>("gpu-rounds"), Some(&64));
    }

    #[test]
    fn whoever_says_something_of_the_processors_has_nothing_tuned_of_them() {
        let resolved = resolve_tuned(TUNED, &["--threads=1"]).expect("it is good");
        assert_eq!(origins(&resolved), ["threads=1 flag", "gpu-rounds=64 tuned 4"]);
        let told = resolved.notes.join("\n");
        assert!(told.contains("tuned team = 2 is not used: threads is given (command line)"), "{told}");
        assert_eq!(resolved.against_tuning().len(), 1);
        let resolved = resolve_tuned(&format!("gpu-rounds = 8\n{TUNED}"), &[]).expect("it is good");
        assert_eq!(origins(&resolved), ["threads=3 tuned 3", "team=2 tuned 4", "gpu-rounds=8 file"]);
    }

    #[test]
    fn tuned_settings_that_do_not_hold_are_void_whatever_they_are() {
        let other = TUNED.replace("processor = 'A'", "processor = 'B'").replace("team = 2", "team = 'many'");
        let resolved =
            resolve_tuned(&other, &[]).expect("what is wrong on another machine may be right there");
        assert!(origins(&resolved).is_empty() && resolved.notes.is_empty(), "{resolved:?}");
        assert_eq!(resolved.warnings.len(), 1);
        let told = &resolved.warnings[0];
        for part in
            ["line 1: the tuned settings are void", "the processor: B when", "A now", "run `pktmine tune`"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        let alone = resolve_tuned(TUNED, &["--backend=cpu"]).expect("it is good");
        assert!(alone.warnings[0].contains("what mines: cpu, X when it was tuned, cpu now"), "{alone:?}");
        let gone = resolve_tuned(TUNED, &["--device=nowhere"]).expect("the backend tells it");
        assert!(gone.warnings[0].contains("what is to mine is not there"), "{gone:?}");
        let wrong = resolve_tuned(&TUNED.replace("team = 2", "team = 0"), &[]).expect_err("it would be used");
        assert!(wrong.to_string().contains("line 3, column 1: team: "), "{wrong}");
    }
}
