//! `pktmine devices`: what there is to mine with.

use clap::Args;
use kernels::Kernel;
use serde_json::{Value, json};

use super::{Exit, print};
use crate::{
    backend::{cpu, gpu},
    self_test::{self, Choice, Wrong},
};

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
GPUs are named to --device of other commands by their index, or by any part of their name. Graphics cards mine of their \
own accord; what shares the processor (integrated, software) only when named.")]
pub struct Arguments {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let gpus: Vec<gpu::About> = gpu::list().into_iter().map(|adapter| adapter.about).collect();
    let cpu = cpu::About::this_machine();
    let used = self_test::fastest();
    let text = match arguments.json {
        true => format!("{}\n", object(&gpus, &cpu, used.as_ref().ok())),
        false => table(&gpus, &cpu, used.as_ref()),
    };
    print(text)?;
    Ok(Exit::Done)
}

/// Lines for people, 80 columns wide but for long names.
fn table(gpus: &[gpu::About], cpu: &cpu::About, used: Result<&Choice, &Wrong>) -> String {
    let mut lines = vec!["GPUs".to_owned()];
    if gpus.is_empty() {
        lines.push(format!("  none: {}", gpu::NO_DEVICE));
    }
    for (index, about) in gpus.iter().enumerate() {
        lines.push(format!("{index:>3}  {}", about.name));
        lines.push(format!("     {}, {} {}", about.kind, about.interface, about.driver));
        let gpu::Limits { binding, buffer, .. } = about.limits;
        lines.push(format!(
            "     {} a binding, {} a buffer; workgroups of {}, {}",
            bytes(binding),
            bytes(buffer),
            about.workgroup_threads,
            bytes(about.workgroup_bytes.into())
        ));
        let names = |present| -> Vec<_> {
            about.features.iter().filter(|f| f.present == present).map(|f| f.name).collect()
        };
        let (has, lacks) = (names(true), names(false));
        let lacks = if lacks.is_empty() { String::new() } else { format!("; lacks {}", lacks.join(", ")) };
        lines.push(format!(
            "     has {}{lacks}",
            if has.is_empty() { "nothing".into() } else { has.join(", ") }
        ));
        lines.push(format!("     {}", usage(index, about)));
    }
    let plural = if cpu.processors == 1 { "" } else { "s" };
    lines.push("CPU".into());
    lines.push(format!("     {}, {} processor{plural}", cpu.model, cpu.processors));
    lines.push(format!("     last-level cache: {}", caches(cpu)));
    let kernel = |kernel: &Kernel| match used {
        Ok(choice) if choice.kernel == *kernel => format!("{kernel} (used)"),
        _ => kernel.to_string(),
    };
    lines.push(format!("     kernels: {}", cpu.kernels.iter().map(kernel).collect::<Vec<_>>().join(", ")));
    match used {
        Ok(choice) if cpu.kernels.first() == Some(&choice.kernel) => {}
        Ok(choice) => lines.push(format!("     {}", choice.reason)),
        Err(wrong) => lines.push(format!("     cannot mine: {wrong}")),
    }
    lines.join("\n") + "\n"
}

/// What becomes of a GPU.
fn usage(index: usize, about: &gpu::About) -> String {
    if let Some(missing) = about.missing() {
        return format!("cannot mine: its driver has no {missing}");
    }
    let rounds = match about.plan() {
        Ok(plan) => format!("{} rounds at once", plan.slots),
        Err(error) => return format!("cannot mine: {error}"),
    };
    if about.kind == gpu::Kind::Discrete {
        format!("mines, {rounds}")
    } else {
        format!("mines when asked to (--device {index}), {rounds}")
    }
}

/// Caches of a size together: `2 × 32 MiB`.
fn caches(cpu: &cpu::About) -> String {
    let mut sizes: Vec<(usize, Option<usize>)> = Vec::new();
    for cache in &cpu.caches {
        match sizes.iter_mut().find(|(_, bytes)| *bytes == cache.bytes) {
            Some((count, _)) => *count += 1,
            None => sizes.push((1, cache.bytes)),
        }
    }
    let size = |(count, size): &(usize, Option<usize>)| match size {
        Some(size) => format!("{count} × {}", bytes(*size as u64)),
        None => "not told by this system".into(),
    };
    sizes.iter().map(size).collect::<Vec<_>>().join(", ")
}

/// A size as people write it.
fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let number = (bytes as f64 / unit as f64 * 10.0).round() / 10.0;
    // Limits that are one byte short of a round number are called by it.
    format!("{number} {name}")
}

fn object(gpus: &[gpu::About], cpu: &cpu::About, used: Option<&Choice>) -> Value {
    let gpu = |(index, about): (usize, &gpu::About)| {
        let features: serde_json::Map<_, _> =
            about.features.iter().map(|feature| (feature.name.to_owned(), feature.present.into())).collect();
        json!({
            "index": index,
            "name": about.name,
            "type": about.kind.to_string(),
            "interface": about.interface,
            "driver": about.driver,
            "limits": {
                "binding_bytes": about.limits.binding,
                "buffer_bytes": about.limits.buffer,
                "workgroup_bytes": about.workgroup_bytes,
                "workgroup_threads": about.workgroup_threads,
            },
            "features": features,
            "mines_unasked": about.kind == gpu::Kind::Discrete,
            "missing": about.missing(),
            "rounds": about.plan().ok().map(|plan| plan.slots),
        })
    };
    let cache = |cache: &cpu::CacheGroup| json!({ "processors": cache.processors, "bytes": cache.bytes });
    json!({
        "gpus": gpus.iter().enumerate().map(gpu).collect::<Vec<_>>(),
        "cpu": {
            "model": cpu.model,
            "processors": cpu.processors,
            "caches": cpu.caches.iter().map(cache).collect::<Vec<_>>(),
            "kernels": cpu.kernels.iter().map(|kernel| kernel.name()).collect::<Vec<_>>(),
            "kernel": used.map(|choice| choice.kernel.name()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_people_write_them() {
        let sizes = [0, 1023, 49152, 128 << 20, (2 << 30) - 1, 1 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "48 KiB", "128 MiB", "2 GiB", "1024 GiB"]);
    }

    #[test]
    fn a_machine_without_a_gpu_is_told_what_to_install() {
        let cpu = cpu::About::this_machine();
        let used = self_test::fastest();
        let text = table(&[], &cpu, used.as_ref());
        assert!(text.contains("none: no driver shows any: install"), "{text}");
        // Minimal systems have neither the loader nor a driver.
        assert!(text.contains("libvulkan1") && text.contains("mesa-vulkan-drivers"), "{text}");
        assert!(text.contains("(used)"), "{text}");
        assert_eq!(object(&[], &cpu, used.as_ref().ok())["gpus"], json!([]));
    }

    #[test]
    fn the_kernel_that_is_used_is_the_one_that_computes_correctly() {
        let cpu = cpu::About::this_machine();
        let used = Choice { kernel: Kernel::Portable, reason: "all others compute wrongly".into() };
        let text = table(&[], &cpu, Ok(&used));
        let lines: Vec<_> = text.lines().collect();
        let kernels = lines.iter().position(|line| line.contains("kernels: ")).expect("they are told");
        assert!(lines[kernels].ends_with("portable (used)"), "{text}");
        assert_eq!(text.matches("(used)").count(), 1, "{text}");
        if cpu.kernels.len() > 1 {
            assert_eq!(lines[kernels + 1], "     all others compute wrongly");
        }
        assert_eq!(object(&[], &cpu, Some(&used))["cpu"]["kernel"], "portable");
        let wrong = Wrong { kernel: "portable", reason: "nothing is right".into() };
        let text = table(&[], &cpu, Err(&wrong));
        assert!(text.contains("cannot mine: the CPU's portable kernel computes wrongly"), "{text}");
        assert!(!text.contains("(used)"), "{text}");
        assert_eq!(object(&[], &cpu, None)["cpu"]["kernel"], Value::Null);
    }
}
