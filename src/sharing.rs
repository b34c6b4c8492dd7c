//! Pausing for the sake of who shares the machine: on battery, and while somebody is at it.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    miner::Control,
    values::{Notice, PauseReason},
};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(3);

/// When mining is to be paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// While the machine runs on its battery.
    pub on_battery: bool,
    /// Until nobody has typed at a terminal for so long.
    pub on_active: Option<Duration>,
}

/// Looks every few seconds, from a thread of its own, and pauses and resumes a miner. What the system does not tell is
/// said once and does not pause.
///
/// # Errors
/// If the system gives no thread.
pub fn watch(settings: Settings, control: Control) -> std::io::Result<()> {
    if settings == Settings::default() {
        return Ok(());
    }
    let look = move || {
        let mut battery = Reason::new(PauseReason::Battery, "whether this machine runs on its battery");
        let mut active = Reason::new(PauseReason::UserActive, "whether somebody types at a terminal");
        loop {
            if settings.on_battery {
                battery.tell(on_battery(Path::new("/sys/class/power_supply")), &control);
            }
            if let Some(long) = settings.on_active {
                active.tell(idle_time().map(|idle| idle < long), &control);
            }
            thread::sleep(LOOK);
        }
    };
    thread::Builder::new().name("sharing".into()).spawn(look)?;
    Ok(())
}

/// One reason to pause, and whether it holds.
struct Reason {
    reason: PauseReason,
    what: &'static str,
    holds: bool,
    said: bool,
}

impl Reason {
    fn new(reason: PauseReason, what: &'static str) -> Self {
        Self { reason, what, holds: false, said: false }
    }

    fn tell(&mut self, holds: Option<bool>, control: &Control) {
        if holds.is_none() && !std::mem::replace(&mut self.said, true) {
            Notice::warn(format!("this system does not tell {}: mining does not pause for it", self.what))
                .log();
        }
        let holds = holds.unwrap_or(false);
        if holds != std::mem::replace(&mut self.holds, holds) {
            if holds { control.pause(self.reason) } else { control.resume(self.reason) }
        }
    }
}

/// Whether a machine with these power supplies runs on its battery; `None`: it has none, or does not tell.
fn on_battery(supplies: &Path) -> Option<bool> {
    let (mut plugged, mut discharging) = (false, None);
    for entry in fs::read_dir(supplies).ok()?.flatten() {
        let read =
            |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default().trim().to_owned();
        match read("type").as_str() {
            // That of a mouse or a keyboard is not the machine's.
            "Battery" | "UPS" if read("scope") != "Device" => {
                *discharging.get_or_insert(false) |= read("status") == "Discharging";
            }
            // 1, or 2 where voltage and current can be chosen, as of many chargers at USB-C.
            "Mains" | "USB" => plugged |= !matches!(read("online").as_str(), "" | "0"),
            _ => {}
        }
    }
    Some(discharging? && !plugged)
}

/// For how long nobody has typed at any terminal of this machine, the miner's own left out; `None`: there is none, or the
/// system does not tell.
fn idle_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let own = rustix::fs::fstat(std::io::stdin()).map_or(0, |stat| stat.st_rdev);
        let in_folder = |folder: &str, prefix: &'static str| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        };
        // The system notes when a terminal was last read from, if somebody reads from it.
        let terminals = in_folder("/dev/pts", "").chain(in_folder("/dev", "tty"));
        let last = terminals.filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            let counts = metadata.file_type().is_char_device() && is_other_terminal(metadata.rdev(), own);
            counts.then(|| metadata.accessed().ok()).flatten()
        });
        SystemTime::now().duration_since(last.max()?).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = SystemTime::now();
        None
    }
}

/// Whether a device of those that are called like terminals is one, and not our own, whose keys are for the miner.
#[cfg(target_os = "linux")]
fn is_other_terminal(device: u64, own: u64) -> bool {
    // These stand for whichever terminal opens them (tty, console, ptmx): nobody types there. A service's private
    // /dev has a new /dev/tty, as if somebody had just typed.
    const STAND_INS: u32 = 5;
    device != own && rustix::fs::major(device) != STAND_INS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn somebody_types_at_terminals_but_not_at_devices_that_stand_for_them() {
        let device = rustix::fs::makedev;
        let own = device(136, 3);
        for (major, minor) in [(136, 0), (4, 1), (4, 64)] {
            assert!(is_other_terminal(device(major, minor), own), "{major}:{minor}");
        }
        for (major, minor) in [(136, 3), (5, 0), (5, 1), (5, 2)] {
            assert!(!is_other_terminal(device(major, minor), own), "{major}:{minor}");
        }
    }

    #[test]
    fn a_machine_runs_on_its_battery_when_that_discharges_and_nothing_else_feeds_it() {
        let supply = |files: &[(&str, &[(&str, &str)])]| {
            let root = tempfile::tempdir().expect("a directory");
            for (name, values) in files {
                fs::create_dir(root.path().join(name)).expect("made");
                for (file, value) in *values {
                    fs::write(root.path().join(name).join(file), format!("{value}\n")).expect("written");
                }
            }
            on_battery(root.path())
        };
        let full: &[(&str, &str)] = &[("type", "Battery"), ("status", "Full")];
        let empties: &[(&str, &str)] = &[("type", "Battery"), ("status", "Discharging")];
        let mouse: &[(&str, &str)] = &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        let mains = |online| -> [(&'static str, &'static str); 2] { [("type", "Mains"), ("online", online)] };
        assert_eq!(supply(&[("AC", &mains("1")), ("BAT0", full)]), Some(false));
        assert_eq!(supply(&[("AC", &mains("0")), ("BAT0", empties)]), Some(true));
        assert_eq!(supply(&[("BAT0", full), ("BAT1", empties)]), Some(true));
        assert_eq!(supply(&[("AC", &mains("1")), ("BAT0", empties)]), Some(false), "a weak charger");
        let usb: &[(&str, &str)] = &[("type", "USB"), ("online", "2")];
        assert_eq!(supply(&[("USBC", usb), ("BAT0", empties)]), Some(false), "a programmable supply");
        assert_eq!(
            supply(&[("USBC", &[("type", "USB")]), ("BAT0", empties)]),
            Some(true),
            "it does not tell"
        );
        assert_eq!(supply(&[("AC", &mains("1")), ("mouse", mouse)]), None, "no battery of its own");
        assert_eq!(supply(&[]), None);
        assert_eq!(on_battery(Path::new("/nonexistent")), None);
    }
}
