//! `pktmine devices`: what there is to mine with.

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, print};
use crate::backend::{cpu, gpu};

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
    let text = if arguments.json { format!("{}\n", object(&gpus, &cpu)) } else { table(&gpus, &cpu) };
    print(text)?;
    Ok(Exit::Done)
}

/// Lines for people, 80 columns wide but for long names.
fn table(gpus: &[gpu::About], cpu: &cpu::About) -> String {
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
    let names: Vec<_> = cpu.kernels.iter().map(|kernel| kernel.name()).collect();
    lines.push(format!(
        "     kernels: {} (used){}",
        names[0],
        names[1..].iter().map(|n| format!(", {n}")).collect::<String>()
    ));
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

fn object(gpus: &[gpu::About], cpu: &cpu::About) -> Value {
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
            "kernel": cpu.kernels[0].name(),
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
        let text = table(&[], &cpu);
        assert!(text.contains("none: no driver shows any: install"), "{text}");
        // Minimal systems have neither the loader nor a driver.
        assert!(text.contains("libvulkan1") && text.contains("mesa-vulkan-drivers"), "{text}");
        assert!(text.contains("(used)"), "{text}");
        assert_eq!(object(&[], &cpu)["gpus"], json!([]));
    }
}
