//! A device with its memory: encodes submissions, and reads back what came of them.
//!
//! Memory of its own has each place (a batch's programs, tables, trees and rounds) and each submission in flight (what it
//! finds, and what is read back). What only lives within a submission is there once: submissions do not overlap.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kernels::{Hash64, TableProgram};

use super::{
    Settings,
    adapters::{self, About},
    batch::{Finished, IN_FLIGHT, Outcome, Rows, SearchInput, Slice, Submission, TableCost, Unit, Work},
    context::{Gpu, GpuError, Upload},
    driver::{Device, Opener},
    passes::{
        done::{Done, NUMBER_LEN, Number},
        execute::{Execute, ExecuteBuffers},
        finish::Finish,
        merkle::{self, Merkle, MerkleBinding},
        search::{self, Harvest, Output, Search, SearchBinding, SearchConfig, SearchStates},
    },
    plan::Plan,
    program::{self, DeviceProgram},
    recovery::Attempt,
    tuning::{Config, Tuning},
};

/// Scratch memory that a unit takes, with some to spare: two thirds of all programs need less.
const SCRATCH_BYTES: u64 = 5 << 18;

/// What is read back: two time stamps, then counts, the submission's number, and roots or announcements.
const COUNTS_AT: u64 = 16;
const NUMBER_AT: u64 = 32;
const DATA_AT: u64 = 64;

/// Words between two programs in their buffer.
const PROGRAM_WORDS: usize = DeviceProgram::MAX_WORDS;

impl TableCost for DeviceProgram {
    fn table_cost(&self) -> u64 {
        self.cost()
    }

    fn reads_word0(&self) -> bool {
        self.units(0, 0).count() > 1
    }
}

/// Opens one device, always the same.
pub struct GpuOpener {
    about: About,
    /// Which of those that look the same it is.
    twin: usize,
    /// How its shaders may be run, best first, and what people call that.
    tunings: Vec<Tuning>,
    variants: Vec<String>,
    plan: Result<Plan, GpuError>,
}

impl GpuOpener {
    /// For the device at `index` of `all`.
    pub fn new(all: &[About], index: usize, settings: &Settings) -> Self {
        let about = all[index].clone();
        let twin = all[..index].iter().filter(|other| **other == about).count();
        let plan = Plan::new(about.limits, settings.rounds);
        let plan = plan.map(|plan| {
            settings.tuning.states().map_or(plan, |states| plan.with_states(states, about.limits))
        });
        let plan = plan.map_err(|reason| GpuError::Plan { adapter: about.name.clone(), reason });
        let tunings = settings.tuning.variants(about.workgroup_bytes, about.has_int64());
        let variants = tunings.iter().map(Tuning::to_string).collect();
        Self { about, twin, tunings, variants, plan }
    }
}

impl Opener for GpuOpener {
    type Device = GpuDevice;

    fn name(&self) -> &str {
        &self.about.name
    }

    fn plan(&self) -> Result<Plan, GpuError> {
        self.plan.clone()
    }

    fn variants(&self) -> &[String] {
        &self.variants
    }

    fn open(&self, Attempt { plan, variant }: Attempt) -> Result<GpuDevice, GpuError> {
        // The library's whole state begins anew with the list: after a driver's reset the old one is of no use.
        let same = adapters::list().into_iter().filter(|adapter| adapter.about.is_same_device(&self.about));
        let adapter = same.into_iter().nth(self.twin).ok_or_else(|| GpuError::Open {
            adapter: self.about.name.clone(),
            reason: "its driver does not show it any more".into(),
        })?;
        let config = self.tunings[variant].config(&adapter.handle.limits());
        GpuDevice::open(&adapter.handle, &config, plan)
    }
}

/// An open device that mines.
pub struct GpuDevice {
    // Bindings and buffers are dropped before the device.
    pending: VecDeque<Pending>,
    flights: Vec<Flight>,
    free_flights: Vec<usize>,
    places: Vec<Place>,
    work: WorkMemory,
    passes: Passes,
    trouble: Arc<Trouble>,
    gpu: Gpu,
    plan: Plan,
    /// Submissions so far: numbers are never used twice, and never 0.
    submitted: u64,
    /// When the last one was seen to have ended.
    last_end: Option<Instant>,
}

struct Passes {
    execute: Execute,
    finish: Finish,
    merkle: Merkle,
    search: Search,
    done: Done,
}

/// What lives within a submission.
struct WorkMemory {
    units: wgpu::Buffer,
    executed: wgpu::Buffer,
    scratch: wgpu::Buffer,
    states: SearchStates,
}

/// What a batch lies in.
struct Place {
    programs: wgpu::Buffer,
    trees: wgpu::Buffer,
    rounds: wgpu::Buffer,
    execute: wgpu::BindGroup,
    finish: wgpu::BindGroup,
    merkle: MerkleBinding,
    /// One for each flight.
    search: Vec<SearchBinding>,
    /// Of each slot, a unit of its program.
    templates: Vec<Option<program::Unit>>,
}

/// What a submission in flight has for itself.
struct Flight {
    harvest: Harvest,
    number: Number,
    /// What is uploaded, mapped between submissions.
    up: wgpu::Buffer,
    /// What is read back, mapped from the end of a submission to the beginning of the next.
    back: wgpu::Buffer,
    is_back_mapped: bool,
    stamps: Option<Stamps>,
}

struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
}

/// A submission in flight.
struct Pending {
    index: wgpu::SubmissionIndex,
    submitted: Instant,
    mapped: Mapped,
    encoded: Encoded,
}

/// A submission whose commands are encoded.
struct Encoded {
    id: u64,
    number: u64,
    flight: usize,
    /// How much is read back.
    bytes: u64,
    what: PendingWork,
}

/// Whether what was read back can be looked at; `None`: not yet.
type Mapped = Arc<Mutex<Option<Result<(), wgpu::BufferAsyncError>>>>;

enum PendingWork {
    Items,
    Roots(usize),
    Search { limit: u32 },
}

/// What the library says of its own accord, kept until somebody asks.
#[derive(Default)]
struct Trouble {
    error: Mutex<Option<wgpu::Error>>,
    lost: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GpuDevice {
    /// Opens a device, compiles the shaders and takes the memory that `plan` needs.
    ///
    /// # Errors
    /// If the driver refuses, a shader does not compile, or memory is not enough.
    pub fn open(adapter: &wgpu::Adapter, config: &Config, plan: Plan) -> Result<Self, GpuError> {
        let gpu = Gpu::open(adapter, config.options)?;
        let trouble = Arc::new(Trouble::default());
        let (errors, losses) = (trouble.clone(), trouble.clone());
        gpu.device.on_uncaptured_error(Arc::new(move |error| {
            lock(&errors.error).get_or_insert(error);
        }));
        gpu.device.set_device_lost_callback(move |reason, text| {
            lock(&losses.lost).get_or_insert(format!("{reason:?} {text}").trim().to_owned());
        });

        let search = SearchConfig {
            states: plan.states,
            outputs: plan.outputs,
            // A submission is never more than one chunk.
            pieces: plan.slots + 1,
            tuning: config.search,
        };
        let passes = Passes {
            execute: Execute::new(&gpu, config.execute)?,
            finish: Finish::new(&gpu, config.finish)?,
            merkle: Merkle::new(&gpu)?,
            search: Search::new(&gpu, search)?,
            done: Done::new(&gpu)?,
        };

        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let limits = gpu.device.limits();
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let scratch =
            (u64::from(plan.units) * SCRATCH_BYTES).min(most).max(passes.execute.min_scratch_bytes());
        let work = WorkMemory {
            units: gpu.buffer("units", u64::from(plan.units) * size_of::<program::Unit>() as u64),
            executed: gpu.buffer("executed", u64::from(plan.units) * program::EXECUTED_BYTES),
            scratch: gpu.buffer("scratch", scratch),
            states: passes.search.states(&gpu),
        };
        let flights: Vec<_> = (0..IN_FLIGHT).map(|_| Flight::new(&gpu, &passes, plan)).collect();
        let places = (0..plan.places).map(|_| Place::new(&gpu, &passes, &work, &flights, plan)).collect();
        let refused = pollster::block_on(validation.pop());
        let full = pollster::block_on(memory.pop());
        let adapter = || gpu.device.adapter_info().name;
        if let Some(error) = full {
            let reason = error.to_string();
            return Err(GpuError::OutOfMemory { adapter: adapter(), rounds: plan.slots, reason });
        }
        if let Some(error) = refused {
            return Err(GpuError::Refused { adapter: adapter(), reason: error.to_string() });
        }
        Ok(Self {
            pending: VecDeque::new(),
            free_flights: (0..flights.len()).collect(),
            flights,
            places,
            work,
            passes,
            trouble,
            gpu,
            plan,
            submitted: 0,
            last_end: None,
        })
    }

    /// What the library has said of its own accord.
    fn check(&self) -> Result<(), GpuError> {
        let adapter = || self.gpu.device.adapter_info().name;
        if let Some(reason) = lock(&self.trouble.lost).take() {
            return Err(GpuError::Lost { adapter: adapter(), reason });
        }
        match lock(&self.trouble.error).take() {
            None => Ok(()),
            Some(error @ wgpu::Error::OutOfMemory { .. }) => {
                let (adapter, reason) = (adapter(), error.to_string());
                Err(GpuError::OutOfMemory { adapter, rounds: self.plan.slots, reason })
            }
            // The driver failed while it was at work.
            Some(error @ wgpu::Error::Internal { .. }) => {
                Err(GpuError::Lost { adapter: adapter(), reason: error.to_string() })
            }
            Some(error) => Err(GpuError::Refused { adapter: adapter(), reason: error.to_string() }),
        }
    }

    fn lost(&self, reason: &dyn std::error::Error) -> GpuError {
        GpuError::Lost { adapter: self.gpu.device.adapter_info().name, reason: reason.to_string() }
    }

    /// Makes items: programs up, then execute and finish, chunk by chunk.
    fn encode_items(
        &mut self,
        uploads: &mut Uploads,
        pass: &mut wgpu::ComputePass<'_>,
        place: u32,
        programs: Vec<(u32, Arc<DeviceProgram>)>,
        units: &[Unit],
    ) {
        let Self { passes, work, .. } = self;
        let place = &mut self.places[place as usize];
        for (slot, program) in programs {
            let at = slot as usize * PROGRAM_WORDS;
            uploads.upload(&place.programs, 4 * at as u64, bytemuck::cast_slice(program.words()));
            place.templates[slot as usize] = program.units(at, slot).next();
        }
        let unit = |unit: &Unit| {
            let Unit { slot, first, count, copies } = *unit;
            let template =
                place.templates[slot as usize].expect("a slot's program is uploaded before it is run");
            program::Unit { first, count, copies, ..template }
        };
        let mut units: Vec<program::Unit> = units.iter().map(unit).collect();
        let chunks = passes.execute.chunks(&mut units, work.scratch.size(), work.executed.size());
        uploads.upload(&work.units, 0, bytemuck::cast_slice(&units));
        for chunk in chunks {
            passes.execute.encode(pass, &place.execute, chunk.clone());
            passes.finish.encode(pass, &place.finish, chunk);
        }
    }

    fn encode_trees(&self, pass: &mut wgpu::ComputePass<'_>, place: u32, slots: &[u32]) {
        let binding = &self.places[place as usize].merkle;
        for run in slots.chunk_by(|a, b| a + 1 == *b) {
            self.passes.merkle.encode(pass, binding, run[0]..run[0] + run.len() as u32);
        }
    }

    fn encode_search(
        &mut self,
        uploads: &mut Uploads,
        pass: &mut wgpu::ComputePass<'_>,
        place: u32,
        flight: usize,
        inputs: Vec<(u32, SearchInput)>,
        slices: &[Slice],
    ) {
        let place = &self.places[place as usize];
        for (slot, SearchInput { header, ann_hash1 }) in inputs {
            let bytes = search::round_bytes(&header, &ann_hash1);
            uploads.upload(&place.rounds, u64::from(slot) * search::ROUND_LEN, &bytes);
        }
        let slice = |&Slice { slot, first, count }: &Slice| search::Slice { slot, first, count };
        let slices: Vec<_> = slices.iter().map(slice).collect();
        let harvest = &mut self.flights[flight].harvest;
        harvest.start(uploads);
        self.passes.search.encode(uploads, pass, &place.search[flight], harvest, &slices);
    }

    /// Encodes a submission: how what it needs gets to where it is used, its work, and how its answer gets to where it
    /// is read.
    fn encode(
        &mut self,
        submission: Submission<DeviceProgram>,
    ) -> Result<([wgpu::CommandBuffer; 3], Encoded), GpuError> {
        let Submission { id, place, work } = submission;
        let flight = self.free_flights.pop().expect("no more submissions than flights");
        self.submitted += 1;
        let number = self.submitted;
        // Whoever looked at what the flight brought last has seen it.
        if std::mem::take(&mut self.flights[flight].is_back_mapped) {
            self.flights[flight].back.unmap();
        }
        let encoder = |gpu: &Gpu| gpu.device.create_command_encoder(&Default::default());
        let mut uploads = Uploads::default();
        let mut working = encoder(&self.gpu);
        let queries = self.flights[flight].stamps.as_ref().map(|stamps| stamps.queries.clone());
        let what = {
            let timestamp_writes = queries.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            let mut pass = working.begin_compute_pass(&descriptor);
            let what = match &work {
                Work::Items { uploads: programs, units } => {
                    self.encode_items(&mut uploads, &mut pass, place, programs.clone(), units);
                    PendingWork::Items
                }
                Work::Trees { slots } => {
                    self.encode_trees(&mut pass, place, slots);
                    PendingWork::Roots(slots.len())
                }
                Work::Search { uploads: inputs, slices, limit } => {
                    let inputs = inputs.clone();
                    self.encode_search(&mut uploads, &mut pass, place, flight, inputs, slices);
                    PendingWork::Search { limit: *limit }
                }
            };
            let there = &self.flights[flight].number;
            uploads.upload(there.sent(), 0, &number.to_le_bytes());
            self.passes.done.encode(&mut pass, there);
            what
        };
        let mut uploading = encoder(&self.gpu);
        let Flight { harvest, number: there, up, back, stamps, .. } = &self.flights[flight];
        uploads.encode(&mut uploading, up).map_err(|error| self.lost(&error))?;
        let mut answering = encoder(&self.gpu);
        if let Some(Stamps { queries, resolved }) = stamps {
            answering.resolve_query_set(queries, 0..2, resolved, 0);
            answering.copy_buffer_to_buffer(resolved, 0, back, 0, COUNTS_AT);
        }
        let mut bytes = DATA_AT;
        match &work {
            Work::Items { .. } => {}
            Work::Trees { slots } => {
                let trees = &self.places[place as usize].trees;
                for slot in slots {
                    answering.copy_buffer_to_buffer(trees, merkle::root_offset(*slot), back, bytes, 64);
                    bytes += 64;
                }
            }
            Work::Search { limit, .. } => {
                answering.copy_buffer_to_buffer(harvest.counts(), 0, back, COUNTS_AT, 16);
                let rows = u64::from(*limit) * Output::LEN;
                answering.copy_buffer_to_buffer(harvest.outputs(), 0, back, bytes, rows);
                bytes += rows;
            }
        }
        answering.copy_buffer_to_buffer(there.done(), 0, back, NUMBER_AT, NUMBER_LEN);
        let commands = [uploading.finish(), working.finish(), answering.finish()];
        Ok((commands, Encoded { id, number, flight, bytes, what }))
    }

    /// Hands commands to the driver.
    fn send(&mut self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>, encoded: Encoded) {
        let index = self.gpu.queue.submit(commands);
        let mapped = Mapped::default();
        let tell = mapped.clone();
        let Flight { up, back, .. } = &self.flights[encoded.flight];
        // Where this fails the next submission finds out.
        up.map_async(wgpu::MapMode::Write, .., |_| {});
        back.map_async(wgpu::MapMode::Read, ..encoded.bytes, move |result| *lock(&tell) = Some(result));
        self.pending.push_back(Pending { index, submitted: Instant::now(), mapped, encoded });
    }

    /// Reads what came of a submission that has ended. What it found stays where it is until it is looked at.
    fn read(&self, encoded: &Encoded, busy: Duration) -> Result<Finished, GpuError> {
        let Encoded { id, number, flight, bytes, .. } = *encoded;
        let Flight { back, stamps, .. } = &self.flights[flight];
        let view = back.get_mapped_range(..bytes).map_err(|error| self.lost(&error))?;
        let read_back = ReadBack { view, rows: 0 };
        let bytes = &*read_back.view;
        let done: u64 = bytemuck::pod_read_unaligned(&bytes[NUMBER_AT as usize..][..NUMBER_LEN as usize]);
        if done != number {
            return Err(GpuError::Lost {
                adapter: self.gpu.device.adapter_info().name,
                reason: format!("its driver gave up submission {number}, and did not say so"),
            });
        }
        let mut elapsed = busy;
        let head: [u64; 2] = bytemuck::pod_read_unaligned(&bytes[..COUNTS_AT as usize]);
        if stamps.is_some() && head[1] > head[0] {
            let period = f64::from(self.gpu.queue.get_timestamp_period());
            elapsed = Duration::from_secs_f64((head[1] - head[0]) as f64 * period / 1e9);
        }
        let data = &bytes[DATA_AT as usize..];
        let outcome = match encoded.what {
            PendingWork::Items => Outcome::Items,
            PendingWork::Roots(count) => {
                Outcome::Roots(data.as_chunks().0.iter().copied().take(count).collect::<Vec<Hash64>>())
            }
            PendingWork::Search { limit } => {
                let count: u32 = bytemuck::pod_read_unaligned(&bytes[COUNTS_AT as usize..][..4]);
                Outcome::Winners { count, rows: read_back.rows(count.min(limit) as usize) }
            }
        };
        Ok(Finished { id, elapsed, outcome })
    }
}

/// What a submission needs, end to end, and where it goes. One buffer takes all of it: buffers of the library's own for
/// each piece would be made anew each time, and a device for which one cannot be made is lost.
#[derive(Default)]
struct Uploads {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

struct Piece {
    to: wgpu::Buffer,
    at: u64,
    bytes: Range<u64>,
}

impl Upload for Uploads {
    fn upload(&mut self, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
        let start = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        self.pieces.push(Piece { to: buffer.clone(), at, bytes: start..self.bytes.len() as u64 });
    }
}

impl Uploads {
    /// The most that a submission needs.
    fn most(plan: Plan) -> u64 {
        let slots = u64::from(plan.slots);
        let programs = slots * 4 * PROGRAM_WORDS as u64;
        let items = programs + u64::from(plan.units) * size_of::<program::Unit>() as u64;
        items.max(slots * search::ROUND_LEN + search::harvest_upload(plan.slots + 1)) + NUMBER_LEN
    }

    /// Moves it to `up`, and encodes how it gets from there to where it goes, in order.
    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        up: &wgpu::Buffer,
    ) -> Result<(), wgpu::MapRangeError> {
        up.get_mapped_range_mut(..self.bytes.len() as u64)?.copy_from_slice(&self.bytes);
        up.unmap();
        for Piece { to, at, bytes } in &self.pieces {
            encoder.copy_buffer_to_buffer(up, bytes.start, to, *at, bytes.end - bytes.start);
        }
        Ok(())
    }
}

/// What came back from a device, where the device has written it.
struct ReadBack {
    view: wgpu::BufferView,
    rows: usize,
}

impl ReadBack {
    fn row_bytes(&self) -> &[u8] {
        &self.view[DATA_AT as usize..][..self.rows * Output::LEN as usize]
    }

    fn rows(mut self, rows: usize) -> Rows {
        self.rows = rows;
        match bytemuck::try_cast_slice::<u8, Output>(self.row_bytes()) {
            Ok(_) => Rows::new(self),
            // No driver is known to map a buffer to an odd address.
            Err(_) => Rows::new(bytemuck::pod_collect_to_vec::<u8, Output>(self.row_bytes())),
        }
    }
}

impl AsRef<[Output]> for ReadBack {
    fn as_ref(&self) -> &[Output] {
        bytemuck::cast_slice(self.row_bytes())
    }
}

/// How long a device was busy with a submission that it began when it came, or when the one before had ended.
fn busy(submitted: Instant, last_end: Option<Instant>, end: Instant) -> Duration {
    end.saturating_duration_since(last_end.map_or(submitted, |last| last.max(submitted)))
}

impl Device for GpuDevice {
    type Program = DeviceProgram;

    fn lower(program: &TableProgram) -> Result<DeviceProgram, String> {
        DeviceProgram::lower(program).map_err(|error| error.to_string())
    }

    fn submit(&mut self, submission: Submission<DeviceProgram>) -> Result<(), GpuError> {
        let (commands, encoded) = self.encode(submission)?;
        self.send(commands, encoded);
        self.check()
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<Finished>, GpuError> {
        let Some(oldest) = self.pending.front() else { return Ok(None) };
        let submission_index = Some(oldest.index.clone());
        let answer = self.gpu.device.poll(wgpu::PollType::Wait { submission_index, timeout: Some(timeout) });
        self.check()?;
        match answer {
            Ok(_) => match &*lock(&oldest.mapped) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(self.lost(error)),
                None => return Ok(None),
            },
            Err(wgpu::PollError::Timeout) => return Ok(None),
            // A device that is lost takes work in silence, and knows nothing of it afterwards.
            Err(error) => return Err(self.lost(&error)),
        }
        let pending = self.pending.pop_front().expect("it was there a moment ago");
        self.flights[pending.encoded.flight].is_back_mapped = true;
        let end = Instant::now();
        let busy = busy(pending.submitted, self.last_end.replace(end), end);
        let finished = self.read(&pending.encoded, busy)?;
        self.free_flights.push(pending.encoded.flight);
        Ok(Some(finished))
    }
}

impl Place {
    fn new(gpu: &Gpu, passes: &Passes, work: &WorkMemory, flights: &[Flight], plan: Plan) -> Self {
        let slots = plan.slots;
        let programs = gpu.buffer("programs", u64::from(slots) * 4 * PROGRAM_WORDS as u64);
        let tables = gpu.buffer("tables", merkle::tables_bytes(slots));
        let trees = gpu.buffer("trees", merkle::trees_bytes(slots));
        let rounds = gpu.buffer("rounds", search::rounds_bytes(slots));
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let buffers = ExecuteBuffers {
            programs: whole(&programs),
            units: whole(&work.units),
            executed: whole(&work.executed),
            scratch: whole(&work.scratch),
        };
        let bind = |flight: &Flight| {
            passes.search.bind(gpu, &rounds, &tables, &trees, &work.states, &flight.harvest)
        };
        Self {
            execute: passes.execute.bind(gpu, buffers),
            finish: passes.finish.bind(gpu, whole(&work.units), whole(&work.executed), whole(&tables)),
            merkle: passes.merkle.bind(gpu, &tables, &trees),
            search: flights.iter().map(bind).collect(),
            templates: vec![None; slots as usize],
            programs,
            trees,
            rounds,
        }
    }
}

impl Flight {
    fn new(gpu: &Gpu, passes: &Passes, plan: Plan) -> Self {
        let rows = u64::from(plan.outputs) * Output::LEN;
        let roots = u64::from(plan.slots) * 64;
        let back = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("back"),
            size: DATA_AT + rows.max(roots),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let up = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("up"),
            size: Uploads::most(plan),
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        let timed = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let stamps = timed.then(|| Stamps::new(gpu));
        Self {
            harvest: passes.search.harvest(gpu),
            number: passes.done.number(gpu),
            up,
            back,
            is_back_mapped: false,
            stamps,
        }
    }
}

impl Stamps {
    fn new(gpu: &Gpu) -> Self {
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("stamps"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("stamps"),
            size: 16,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Self { queries, resolved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::{
        adapters::Kind,
        context::{Options, testing::on_each_adapter},
        driver::prove,
        plan::Limits,
    };

    /// A plan as small as they come.
    fn plan(slots: u32) -> Plan {
        let limits = Limits { kind: Kind::Software, binding: 128 << 20, buffer: 1 << 31 };
        Plan { slots, places: 1, units: 1, states: 1024, ..Plan::new(limits, None).expect("a plan") }
    }

    fn config(adapter: &wgpu::Adapter, options: Options) -> Config {
        Config { options, ..Tuning::default().config(&adapter.limits()) }
    }

    #[test]
    fn a_round_of_difficulty_2_is_the_known_one_byte_by_byte() {
        on_each_adapter(|adapter, options| {
            // Without 64-bit integers in a tight place, a hundred soft nonces at a time, and without checks.
            // That all checks are there makes no difference to passes, which are tested so one by one.
            let (plan, unchecked) = match options.int64 {
                true => (plan(1), false),
                false => (Plan { states: 300, outputs: 100, ..plan(1) }, true),
            };
            let options = Options { unchecked, loop_bounds: false, ..options };
            let mut device = GpuDevice::open(adapter, &config(adapter, options), plan).expect("it opens");
            let proved = prove(&mut device, plan, "this device");
            assert!(proved.is_ok(), "{proved:?}");
        });
    }

    #[test]
    fn a_device_that_is_taken_away_is_told_as_lost() {
        on_each_adapter(|adapter, options| {
            if !options.int64 {
                return;
            }
            let mut device = GpuDevice::open(adapter, &config(adapter, options), plan(1)).expect("it opens");
            let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                device.gpu.device.destroy();
                let work = Work::Trees { slots: vec![0] };
                device.submit(Submission { id: 0, place: 0, work })?;
                (0..100).try_for_each(|_| device.wait(Duration::from_millis(50)).map(drop))
            }));
            // The library says so, or panics: both are an end that the driver takes for a loss.
            assert!(!matches!(lost, Ok(Ok(()))), "nobody noticed");
            assert!(matches!(lost, Err(_) | Ok(Err(GpuError::Lost { .. }))), "{lost:?}");
        });
    }

    #[test]
    fn a_submission_of_which_a_part_was_not_carried_out_is_told_as_lost() {
        on_each_adapter(|adapter, options| {
            if !options.int64 {
                return;
            }
            let config = config(adapter, options);
            let trees = || Submission { id: 7, place: 0, work: Work::Trees { slots: vec![0] } };
            let answer = |device: &mut GpuDevice| {
                (0..1000).find_map(|_| device.wait(Duration::from_millis(50)).transpose()).expect("an answer")
            };
            // What a driver carries out of a submission's uploads, work and copies back.
            for parts in [0..0, 0..2, 1..3, 2..3] {
                let mut device = GpuDevice::open(adapter, &config, plan(1)).expect("it opens");
                // So often that every flight has an old answer.
                for _ in 0..IN_FLIGHT {
                    device.submit(trees()).expect("it is taken");
                    let finished = answer(&mut device).expect("it is carried out");
                    assert!(matches!(finished.outcome, Outcome::Roots(roots) if roots.len() == 1));
                }
                let (commands, encoded) = device.encode(trees()).expect("it is taken");
                device.send(commands.into_iter().skip(parts.start).take(parts.len()), encoded);
                let error = answer(&mut device).expect_err("it was not carried out");
                assert!(matches!(error, GpuError::Lost { .. }), "{parts:?}: {error}");
                assert!(error.to_string().contains("gave up submission 3"), "{error}");
            }
        });
    }

    #[test]
    fn a_device_is_busy_with_a_submission_from_the_end_of_the_one_before() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let millis = |submitted, last, end| busy(at(submitted), last, at(end)).as_millis();
        assert_eq!(millis(10, None, 110), 100);
        assert_eq!(millis(10, Some(at(60)), 160), 100, "it waited behind the other one");
        assert_eq!(millis(10, Some(at(5)), 110), 100, "the device had nothing to do");
    }

    #[test]
    fn work_that_the_driver_refuses_is_told() {
        on_each_adapter(|adapter, options| {
            if !options.int64 {
                return;
            }
            let device = GpuDevice::open(adapter, &config(adapter, options), plan(1)).expect("it opens");
            assert!(device.check().is_ok());
            device.gpu.buffer("too large", 1 << 60);
            let error = device.check().expect_err("it is too large");
            assert!(matches!(error, GpuError::Refused { .. }), "{error}");
            assert!(device.check().is_ok(), "it is told once");
        });
    }
}
