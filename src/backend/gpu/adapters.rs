//! Which devices there are, in an order that stays, and which of them the user means.

use std::{cmp::Reverse, fmt};

use super::plan::{Limits, Plan, PlanError};

/// A device, through the best of the interfaces that show it.
pub struct Adapter {
    /// What is known of it.
    pub about: About,
    /// How it is opened.
    pub handle: wgpu::Adapter,
}

/// What is known of a device without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What its driver calls it.
    pub name: String,
    /// "Vulkan", "Metal", "DX12".
    pub interface: &'static str,
    /// What kind of device it is.
    pub kind: Kind,
    /// The driver and its version, if they are told.
    pub driver: String,
    /// What the plan depends on.
    pub limits: Limits,
    /// Memory that a workgroup has, in bytes.
    pub workgroup_bytes: u32,
    /// Threads of a workgroup, at most.
    pub workgroup_threads: u32,
    /// What miners make use of, and whether it has it.
    pub features: Vec<Feature>,
    vendor: u32,
    device: u32,
    /// Where it is plugged in; empty if that is not told.
    pub bus: String,
}

impl About {
    /// Whether it is the same device, by whatever driver it is used now: one can be replaced while the program runs.
    pub fn is_same_device(&self, other: &Self) -> bool {
        let identity = |about: &Self| (about.interface, about.vendor, about.device, about.kind);
        // What DX12 says of the place depends on what else there is.
        identity(self) == identity(other) && (self.interface == "DX12" || self.bus == other.bus)
    }
}

/// Something that a device may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// Whether the device has it.
    pub present: bool,
    /// Whether it cannot mine without.
    pub required: bool,
}

/// The name of a [`Feature`].
const INT64: &str = "64-bit integers";

/// Kinds of devices, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A card of its own.
    Discrete,
    /// Shares the processor's memory.
    Integrated,
    /// Part of another machine's.
    Virtual,
    /// Nobody knows.
    Other,
    /// Runs on the processor.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Software => "software",
        })
    }
}

impl About {
    /// A card to be told about.
    #[cfg(test)]
    pub fn example(name: &str) -> Self {
        testing::about(name, "Vulkan", Kind::Discrete, "")
    }

    /// How it would be used.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        Plan::new(self.limits, None)
    }

    /// What it cannot mine without and does not have.
    pub fn missing(&self) -> Option<&'static str> {
        self.features.iter().find(|feature| feature.required && !feature.present).map(|feature| feature.name)
    }

    fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let feature =
            |name, feature, required| Feature { name, present: features.contains(feature), required };
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Other => Kind::Other,
            wgpu::DeviceType::Cpu => Kind::Software,
        };
        Self {
            name: info.name,
            interface: match info.backend {
                wgpu::Backend::Vulkan => "Vulkan",
                wgpu::Backend::Metal => "Metal",
                wgpu::Backend::Dx12 => "DX12",
                wgpu::Backend::Gl => "OpenGL",
                wgpu::Backend::BrowserWebGpu | wgpu::Backend::Noop => "none",
            },
            kind,
            driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
            limits: plan_limits(kind, &limits),
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
            features: vec![
                feature("immediates", wgpu::Features::IMMEDIATES, true),
                feature(INT64, wgpu::Features::SHADER_INT64, false),
                feature("time stamps", wgpu::Features::TIMESTAMP_QUERY, false),
            ],
            vendor: info.vendor,
            device: info.device,
            bus: info.device_pci_bus_id,
        }
    }

    /// Whether its shaders have 64-bit integers.
    pub fn has_int64(&self) -> bool {
        self.features.iter().any(|feature| feature.name == INT64 && feature.present)
    }

    /// Interfaces in the order that they are preferred in.
    fn rank(&self) -> u32 {
        match self.interface {
            "Vulkan" | "Metal" => 0,
            "DX12" => 1,
            _ => 2,
        }
    }
}

/// The largest binding that shaders index rightly everywhere: Metal's can be larger, but shaders are told their sizes in 32
/// bits there.
const BINDING: u64 = i32::MAX as u64;

fn plan_limits(kind: Kind, limits: &wgpu::Limits) -> Limits {
    let binding = limits.max_storage_buffer_binding_size.min(BINDING);
    Limits { kind, binding, buffer: limits.max_buffer_size }
}

/// Whether there may be a graphics card. On Linux every driver of one has a device file, and to look for those first keeps
/// the software adapters' libraries, which complain where there is no desktop, from being loaded for nothing.
pub fn may_have_card() -> bool {
    const FILES: [&str; 7] =
        ["/dev/dri", "/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0"];
    !cfg!(target_os = "linux") || FILES.iter().any(|file| std::path::Path::new(file).exists())
}

/// All devices: one for each that there is physically, hardware first. A device's index in this list is the same as long
/// as the machine's devices and drivers are.
pub fn list() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let handles = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut handles: Vec<_> = handles.into_iter().map(Some).collect();
    let mut abouts: Vec<About> = handles.iter().flatten().map(About::of).collect();
    forget_guesses(&mut abouts);
    let adapter = |at: usize| Some(Adapter { about: abouts[at].clone(), handle: handles[at].take()? });
    order(&abouts).into_iter().filter_map(adapter).collect()
}

/// Takes away where DX12 cards of one model sit, if they are said to sit in the same place: the device library looks that up
/// by the model there, and finds the first one for each.
fn forget_guesses(abouts: &mut [About]) {
    let dx12 = |about: &&About| about.interface == "DX12";
    let buses: Vec<String> = abouts.iter().filter(dx12).map(|about| about.bus.clone()).collect();
    for about in abouts.iter_mut().filter(|about| dx12(&&**about)) {
        if buses.iter().filter(|bus| **bus == about.bus).count() > 1 {
            about.bus.clear();
        }
    }
}

/// Indices of the devices to show, in order. A card that several interfaces show is shown by the best of them.
fn order(abouts: &[About]) -> Vec<usize> {
    let same_model = |a: &About, b: &About| (a.vendor, a.device, a.kind) == (b.vendor, b.device, b.kind);
    let mut kept: Vec<usize> = Vec::new();
    for (at, about) in abouts.iter().enumerate() {
        // Through one interface each card of a model is shown once; another interface shows the same cards again.
        let better = abouts.iter().any(|other| same_model(other, about) && other.rank() < about.rank());
        // Two drivers of one interface can show the same card.
        let twice = kept.iter().any(|kept| {
            let other = &abouts[*kept];
            same_model(other, about) && !about.bus.is_empty() && other.bus == about.bus
        });
        if !better && !twice {
            kept.push(at);
        }
    }
    let key = |at: &usize| {
        let about = &abouts[*at];
        (about.kind, Reverse(about.limits.binding), about.bus.clone(), about.name.clone())
    };
    kept.sort_by_cached_key(key);
    kept
}

/// Which devices the user means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All cards of their own.
    #[default]
    Suitable,
    /// Indices and parts of names, separated by commas.
    Named(String),
}

/// The user means a device that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device {asked:?}; {}", list_of(there))]
pub struct UnknownDevice {
    asked: String,
    there: Vec<String>,
}

fn list_of(there: &[String]) -> String {
    if there.is_empty() {
        return NO_DEVICE.to_owned();
    }
    let rows: Vec<_> = there.iter().enumerate().map(|(index, name)| format!("{index} {name}")).collect();
    format!("there are: {}", rows.join(", "))
}

/// What a user without any device can do.
pub const NO_DEVICE: &str = "no driver shows any: install Vulkan's loader (libvulkan1 on Debian and Ubuntu) and your \
                             card's driver (for NVIDIA the proprietary driver, else Mesa's: mesa-vulkan-drivers)";

impl Selection {
    /// The devices that are meant, each once, in the order of the list. Graphics cards are looked for only if there may be
    /// one.
    ///
    /// # Errors
    /// If the user means one that is not there.
    pub fn find(&self) -> Result<Vec<About>, UnknownDevice> {
        if *self == Self::Suitable && !may_have_card() {
            return Ok(Vec::new());
        }
        let all: Vec<About> = list().into_iter().map(|adapter| adapter.about).collect();
        let chosen = self.choose(&all.iter().collect::<Vec<_>>())?;
        Ok(chosen.into_iter().map(|index| all[index].clone()).collect())
    }

    /// Indices of the devices that are meant, each once, in the order of the list.
    ///
    /// # Errors
    /// If the user means one that is not there.
    pub fn choose(&self, abouts: &[&About]) -> Result<Vec<usize>, UnknownDevice> {
        let Self::Named(text) = self else {
            let suitable = |at: &usize| abouts[*at].kind == Kind::Discrete;
            return Ok((0..abouts.len()).filter(suitable).collect());
        };
        let meant = |part: &str| -> Vec<usize> {
            let part = part.trim().to_lowercase();
            if let Some(index) = part.parse().ok().filter(|index| *index < abouts.len()) {
                return vec![index];
            }
            // A number that is no index is a word of a name: where card 3 has failed it does not mean an RTX 3090.
            let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
            let fits = |at: &usize| {
                let name = abouts[*at].name.to_lowercase();
                if is_number {
                    name.split_whitespace().any(|word| word == part)
                } else {
                    name.contains(&part)
                }
            };
            (0..abouts.len()).filter(|_| !part.is_empty()).filter(fits).collect()
        };
        // A name can have commas of its own.
        let whole = meant(text);
        if !whole.is_empty() && text.contains(char::is_alphanumeric) {
            return Ok(whole);
        }
        let mut chosen = Vec::new();
        for part in text.split(',') {
            let found = meant(part);
            if found.is_empty() {
                let there = abouts.iter().map(|about| about.name.clone()).collect();
                return Err(UnknownDevice { asked: part.trim().to_owned(), there });
            }
            chosen.extend(found);
        }
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A device to be told about.
    pub fn about(name: &str, interface: &'static str, kind: Kind, bus: &str) -> About {
        About {
            name: name.into(),
            interface,
            kind,
            driver: String::new(),
            limits: Limits { kind, binding: 1 << 31, buffer: 1 << 40 },
            workgroup_bytes: 32768,
            workgroup_threads: 1024,
            features: Vec::new(),
            vendor: 1,
            device: name.len() as u32,
            bus: bus.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::about, *};

    fn shown(abouts: &[About]) -> Vec<(&str, &str, &str)> {
        let show = |at: usize| (&*abouts[at].name, abouts[at].interface, &*abouts[at].bus);
        order(abouts).into_iter().map(show).collect()
    }

    #[test]
    fn a_card_is_shown_once_however_many_interfaces_and_drivers_show_it() {
        let abouts = [
            about("Basic", "DX12", Kind::Software, ""),
            about("H200", "DX12", Kind::Discrete, ""),
            about("H200", "DX12", Kind::Discrete, ""),
            about("H200", "Vulkan", Kind::Discrete, "0000:02:00.0"),
            about("H200", "Vulkan", Kind::Discrete, "0000:01:00.0"),
            about("Radeon", "Vulkan", Kind::Integrated, "0000:09:00.0"),
            about("Radeon", "Vulkan", Kind::Integrated, "0000:09:00.0"),
        ];
        let expected = [
            ("H200", "Vulkan", "0000:01:00.0"),
            ("H200", "Vulkan", "0000:02:00.0"),
            ("Radeon", "Vulkan", "0000:09:00.0"),
            ("Basic", "DX12", ""),
        ];
        assert_eq!(shown(&abouts), expected);
        let mut reversed = abouts;
        reversed.reverse();
        assert_eq!(shown(&reversed), expected, "whatever order they are found in");
    }

    #[test]
    fn cards_that_dx12_takes_for_one_another_are_all_shown_and_sit_nowhere() {
        let mut abouts = [
            about("RTX 4090", "DX12", Kind::Discrete, "0000:01:00.0"),
            about("RTX 4090", "DX12", Kind::Discrete, "0000:01:00.0"),
            about("Radeon", "DX12", Kind::Discrete, "0000:09:00.0"),
            about("H200", "Vulkan", Kind::Discrete, "0000:0a:00.0"),
            about("H200", "Vulkan", Kind::Discrete, "0000:0a:00.0"),
        ];
        forget_guesses(&mut abouts);
        let expected = [
            ("RTX 4090", "DX12", ""),
            ("RTX 4090", "DX12", ""),
            ("Radeon", "DX12", "0000:09:00.0"),
            ("H200", "Vulkan", "0000:0a:00.0"),
        ];
        assert_eq!(shown(&abouts), expected);
    }

    #[test]
    fn no_binding_is_larger_than_shaders_can_index() {
        let limits =
            |binding| wgpu::Limits { max_storage_buffer_binding_size: binding, ..Default::default() };
        assert_eq!(plan_limits(Kind::Integrated, &limits(128 << 20)).binding, 128 << 20);
        assert_eq!(plan_limits(Kind::Integrated, &limits(48 << 30)).binding, (1 << 31) - 1);
    }

    #[test]
    fn without_being_told_only_cards_of_their_own_are_used() {
        let kinds = [Kind::Discrete, Kind::Integrated, Kind::Discrete, Kind::Virtual, Kind::Software];
        let abouts = kinds.map(|kind| about("x", "Vulkan", kind, ""));
        let chosen = Selection::Suitable.choose(&abouts.each_ref());
        assert_eq!(chosen, Ok(vec![0, 2]));
        assert_eq!(Selection::Suitable.choose(&[]), Ok(vec![]));
    }

    #[test]
    fn devices_are_meant_by_index_or_part_of_the_name() {
        let names = ["NVIDIA RTX 4090", "NVIDIA H200", "llvmpipe (LLVM 15.0.6, 256 bits)"];
        let abouts = names.map(|name| about(name, "Vulkan", Kind::Discrete, ""));
        let choose = |text: &str| Selection::Named(text.into()).choose(&abouts.each_ref());
        assert_eq!(choose("1"), Ok(vec![1]));
        assert_eq!(choose(" 2, 0"), Ok(vec![0, 2]));
        assert_eq!(choose("nvidia"), Ok(vec![0, 1]));
        assert_eq!(choose("h200,0,NVIDIA"), Ok(vec![0, 1]));
        assert_eq!(choose("4090"), Ok(vec![0]), "a number that is no index is a word of a name");
        assert_eq!(choose("llvmpipe (LLVM 15.0.6, 256 bits)"), Ok(vec![2]), "commas of its own");
        for nothing in ["7", "4", "0,5", "radeon", "", ",", "0,radeon", "0,"] {
            let error = choose(nothing).expect_err(nothing).to_string();
            assert!(error.contains("0 NVIDIA RTX 4090, 1 NVIDIA H200, 2 llvmpipe"), "{error}");
        }
        let error = Selection::Named("0".into()).choose(&[]).expect_err("there is none").to_string();
        assert!(error.contains("your card's driver"), "{error}");
    }
}
