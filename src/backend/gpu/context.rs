//! An open device, and how shaders are built and run on it.

use std::num::NonZero;

use super::{
    plan::PlanError,
    source::{self, Part},
};

/// Bytes of immediates that a shader may have: what every Vulkan device offers.
const IMMEDIATES: u32 = 128;

/// Workgroups of a dispatch in one dimension, at most (the least that devices guarantee, and what most have).
const WORKGROUPS: u32 = 65535;

/// An open device with its queue.
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// Whether shaders use 64-bit integers.
    pub int64: bool,
    options: Options,
}

/// What of an adapter is used; the rest is needed, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Use 64-bit integers in shaders, where there are any.
    pub int64: bool,
    /// Leave out of shaders the checks that indices are within bounds and loops come to an end.
    pub unchecked: bool,
    /// Have the library count the turns of every loop in shaders, so that each ends. Part of the checks.
    pub loop_bounds: bool,
}

impl Options {
    /// The checks that shaders have; `None`: all there are.
    fn checks(self) -> Option<wgpu::ShaderRuntimeChecks> {
        let Self { unchecked, loop_bounds, .. } = self;
        let no_loop_bounds = || wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        match unchecked {
            true => Some(wgpu::ShaderRuntimeChecks::unchecked()),
            false => (!loop_bounds).then(no_loop_bounds),
        }
    }
}

/// What brings bytes to buffers.
pub trait Upload {
    /// Has `bytes` written to a buffer, from byte `at` on, before the submission that is being encoded runs. Both are
    /// multiples of 4.
    fn upload(&mut self, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]);
}

/// A device cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GpuError {
    /// The adapter lacks something.
    #[error("{adapter} cannot mine: its driver has no {missing}; a newer driver may have")]
    Missing {
        /// The adapter's name.
        adapter: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// The driver gave no device.
    #[error("{adapter} cannot be opened: {reason}")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// A shader does not compile.
    #[error("the shader {shader} does not compile on {adapter}: {reason}")]
    Shader {
        /// The shader's name: its file in `shaders/`.
        shader: &'static str,
        /// The adapter's name.
        adapter: String,
        /// What the compiler said.
        reason: String,
    },
    /// It cannot be used as asked.
    #[error("{adapter} cannot mine: {reason}")]
    Plan {
        /// The adapter's name.
        adapter: String,
        /// Why.
        reason: PlanError,
    },
    /// Its memory is not enough.
    #[error("{adapter} has no memory left for {rounds} rounds: {reason}; use fewer with --gpu-rounds")]
    OutOfMemory {
        /// The adapter's name.
        adapter: String,
        /// Rounds of a batch.
        rounds: u32,
        /// What the driver said.
        reason: String,
    },
    /// The device is gone, for the moment or for good.
    #[error("{adapter} was lost: {reason}")]
    Lost {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// The driver refuses what is asked of it.
    #[error("{adapter} refuses work: {reason}; this is a bug of pktmine or of its driver, please report it")]
    Refused {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// What it computes is wrong.
    #[error("{adapter} computes wrongly, so nothing is mined with it: {reason}")]
    Wrong {
        /// The adapter's name.
        adapter: String,
        /// What was found out.
        reason: String,
    },
}

impl Gpu {
    /// Opens an adapter, with the limits that it has.
    ///
    /// # Errors
    /// If it lacks what shaders need, or the driver refuses.
    pub fn open(adapter: &wgpu::Adapter, options: Options) -> Result<Self, GpuError> {
        let name = adapter.get_info().name;
        if !adapter.features().contains(wgpu::Features::IMMEDIATES) {
            return Err(GpuError::Missing { adapter: name, missing: "immediate constants" });
        }
        let wanted = wgpu::Features::SHADER_INT64 | wgpu::Features::TIMESTAMP_QUERY;
        let mut features = wgpu::Features::IMMEDIATES | adapter.features() & wanted;
        if !options.int64 {
            features.remove(wgpu::Features::SHADER_INT64);
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("pktmine"),
            required_features: features,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| GpuError::Open { adapter: name, reason: error.to_string() })?;
        let int64 = features.contains(wgpu::Features::SHADER_INT64);
        Ok(Self { device, queue, int64, options })
    }

    /// Builds a shader. `parts` are put together in order, behind one `const` line for each of `constants`; the entry
    /// point is `main`. Bindings are `@group(0) @binding(i)` for the i-th of `bindings`.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn shader(
        &self,
        name: &'static str,
        parts: &[Part],
        constants: &[(&str, u32)],
        bindings: &[Access],
    ) -> Result<Shader, GpuError> {
        let text = source::compose(parts, constants, self.int64);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let module = self.module(name, text);
        let entries: Vec<_> = bindings.iter().zip(0..).map(|(access, at)| access.entry(at)).collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(name),
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: IMMEDIATES,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let errors = [pollster::block_on(internal.pop()), pollster::block_on(validation.pop())];
        if let Some(error) = errors.into_iter().flatten().next() {
            let adapter = self.device.adapter_info().name;
            return Err(GpuError::Shader { shader: name, adapter, reason: error.to_string() });
        }
        Ok(Shader { name, layout, pipeline })
    }

    fn module(&self, name: &'static str, text: String) -> wgpu::ShaderModule {
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source };
        let Some(checks) = self.options.checks() else {
            return self.device.create_shader_module(descriptor);
        };
        #[allow(unsafe_code, reason = "the library leaves checks out for trusted shaders only")]
        // SAFETY: all shaders are this program's own. Their indices are made by the host from sizes of the buffers that
        // they are bound to, or masked to the size of a table; every loop has a bound that the host has checked.
        unsafe {
            self.device.create_shader_module_trusted(descriptor, checks)
        }
    }

    /// A storage buffer that is copied to and from.
    pub fn buffer(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let label = Some(label);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    }
}

/// What a shader does with a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

impl Access {
    fn entry(self, binding: u32) -> wgpu::BindGroupLayoutEntry {
        wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: self == Self::Read },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None::<NonZero<u32>>,
        }
    }
}

/// A compiled shader.
pub struct Shader {
    name: &'static str,
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

impl Shader {
    /// Binds buffers, in the order of the shader's bindings.
    pub fn bind(&self, gpu: &Gpu, buffers: &[wgpu::BufferBinding<'_>]) -> wgpu::BindGroup {
        let resources = buffers.iter().cloned().map(wgpu::BindingResource::Buffer);
        let entries: Vec<_> = (0..)
            .zip(resources)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(self.name), layout: &self.layout, entries: &entries };
        gpu.device.create_bind_group(&descriptor)
    }

    /// Runs `workgroups` of it. They are numbered `workgroup.y * WORKGROUPS_X + workgroup.x`, and there may be more of
    /// them than were asked for: a shader ends those beyond the end of its work. `immediates` are its
    /// `var<immediate>`.
    pub fn dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        group: &wgpu::BindGroup,
        immediates: &[u32],
        workgroups: u32,
    ) {
        if workgroups == 0 {
            return;
        }
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.set_immediates(0, bytemuck::cast_slice(immediates));
        pass.dispatch_workgroups(workgroups.min(WORKGROUPS), workgroups.div_ceil(WORKGROUPS), 1);
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Devices for tests.

    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// One after the other: software adapters use all processors by themselves.
    static TURN: Mutex<()> = Mutex::new(());

    /// A device.
    pub struct TestGpu {
        gpu: Gpu,
    }

    impl std::ops::Deref for TestGpu {
        type Target = Gpu;

        fn deref(&self) -> &Gpu {
            &self.gpu
        }
    }

    /// Runs a test on the first adapter there is, hardware first, with 64-bit integers and without.
    ///
    /// # Panics
    /// If there is no adapter and the variable `PKTMINE_REQUIRE_GPU` is set. Without it, the test is skipped.
    pub fn on_each_gpu(test: impl Fn(&TestGpu)) {
        on_each_adapter(|adapter, options| {
            let gpu = Gpu::open(adapter, options).expect("the adapter opens");
            assert!(!gpu.int64 || options.int64);
            test(&TestGpu { gpu });
        });
    }

    /// The same for tests that open their device themselves.
    ///
    /// # Panics
    /// As [`on_each_gpu`].
    pub fn on_each_adapter(test: impl Fn(&wgpu::Adapter, Options)) {
        for int64 in [true, false] {
            let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(adapter) = first_adapter() else {
                let required = std::env::var_os("PKTMINE_REQUIRE_GPU").is_some_and(|value| value != "0");
                assert!(!required, "no Vulkan adapter: install one (Debian: mesa-vulkan-drivers)");
                return;
            };
            test(&adapter, Options { int64, unchecked: false, loop_bounds: true });
        }
    }

    fn first_adapter() -> Option<wgpu::Adapter> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        adapters.sort_by_key(|adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu);
        adapters.into_iter().next()
    }

    impl Upload for &TestGpu {
        fn upload(&mut self, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
            self.queue.write_buffer(buffer, at, bytes);
        }
    }

    impl TestGpu {
        /// A buffer with this in it.
        pub fn upload<T: bytemuck::NoUninit>(&self, label: &str, data: &[T]) -> wgpu::Buffer {
            let bytes: &[u8] = bytemuck::cast_slice(data);
            let buffer = self.buffer(label, bytes.len() as u64);
            self.queue.write_buffer(&buffer, 0, bytes);
            buffer
        }

        /// Runs what `encode` says in one compute pass, and waits for its end.
        pub fn run(&self, encode: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encode(&mut encoder.begin_compute_pass(&Default::default()));
            self.queue.submit([encoder.finish()]);
            self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
        }

        /// What is in a buffer.
        pub fn download<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer) -> Vec<T> {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let size = buffer.size();
            let copy = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            });
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, size);
            self.queue.submit([encoder.finish()]);
            copy.map_async(wgpu::MapMode::Read, .., |result| result.expect("the buffer can be mapped"));
            self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
            let view = copy.get_mapped_range(..).expect("the buffer is mapped");
            bytemuck::pod_collect_to_vec(&view)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::on_each_gpu, *};

    #[test]
    fn loops_can_go_without_bounds_while_all_other_checks_stay() {
        let checks = |unchecked, loop_bounds| Options { int64: true, unchecked, loop_bounds }.checks();
        assert!(checks(false, true).is_none(), "all");
        let no_bounds = checks(false, false).expect("some");
        assert!(!no_bounds.force_loop_bounding && no_bounds.bounds_checks && no_bounds.int_div_checks);
        for loop_bounds in [true, false] {
            let none = checks(true, loop_bounds).expect("none");
            assert!(!none.force_loop_bounding && !none.bounds_checks);
        }
    }

    #[test]
    fn immediates_bindings_and_both_kinds_of_64_bit_integers_reach_a_shader() {
        let text = "
            struct Immediates { count: u32, factor: u32 }
            var<immediate> immediates: Immediates;
            @group(0) @binding(0) var<storage, read> numbers: array<u32>;
            @group(0) @binding(1) var<storage, read_write> products: array<u32>;

            @compute @workgroup_size(WORKGROUP)
            fn main(
                @builtin(workgroup_id) workgroup: vec3<u32>,
                @builtin(num_workgroups) workgroups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32,
            ) {
                let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + lane;
                if i < immediates.count {
                    products[i] = high_half(numbers[i], immediates.factor);
                }
            }";
        let high_half = Part::Either {
            int64: "fn high_half(a: u32, b: u32) -> u32 { return u32((u64(a) * u64(b)) >> 32u); }",
            int32: "fn high_half(a: u32, b: u32) -> u32 {
                let low = (a & 0xffffu) * (b & 0xffffu);
                let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
                let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
                return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
            }",
        };
        on_each_gpu(|gpu| {
            let parts = [high_half, Part::Text(text)];
            let shader = gpu
                .shader("product", &parts, &[("WORKGROUP", 32)], &[Access::Read, Access::Write])
                .expect("it compiles");
            let numbers: Vec<u32> = (0..1000u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
            let factor = 0xfedc_ba98;
            let (numbers_there, products) =
                (gpu.upload("numbers", &numbers), gpu.upload("products", &[7u32; 1001]));
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            let group = shader.bind(gpu, &[whole(&numbers_there), whole(&products)]);
            gpu.run(|pass| shader.dispatch(pass, &group, &[1000, factor], 1000u32.div_ceil(32)));
            let high_half = |n: &u32| ((u64::from(*n) * u64::from(factor)) >> 32) as u32;
            let expected: Vec<u32> = numbers.iter().map(high_half).chain([7]).collect();
            assert_eq!(gpu.download::<u32>(&products), expected);
        });
    }

    #[test]
    fn a_shader_that_does_not_compile_is_told_by_name() {
        on_each_gpu(|gpu| {
            let error =
                gpu.shader("nonsense", &[Part::Text("fn main( {")], &[], &[]).err().expect("no shader");
            assert!(error.to_string().starts_with("the shader nonsense does not compile on"), "{error}");
        });
    }
}
