//! Turns a program into the form that lanes run: many items at once, a lane for each.
//!
//! A value that does not vary in a loop is computed before it: inputs and immediates never vary within a cycle, and a
//! MEMORY varies with the index of its own loop alone, so the level of every value, the innermost loop that it varies
//! in, is known beforehand. IN and MEMORY are no steps: they are rows of words that other instructions take as
//! operands where they lie.

use super::{Closes, Instruction, Op, Operand, Program};

/// Number of a row of words, one for each lane, that an instruction reads. In the order of the fields of
/// [`LaneProgram`]: inputs, memory that does not vary, memory that varies, results.
pub type Source = u16;

/// A program as lanes run it: straight through both bodies of every branch.
#[derive(Debug, Default)]
pub struct LaneProgram {
    /// What is to be done, in order.
    pub steps: Vec<Step>,
    /// The input words that the program reads: number i is source i.
    pub inputs: Vec<u8>,
    /// The words of MEMORY instructions that do not vary; their sources follow the inputs'.
    pub fixed_memory: Vec<u8>,
    /// MEMORY instructions that vary, loop by loop; their sources follow.
    pub turning_memory: Vec<TurningMemory>,
    /// How many rows the results of computations need; their sources follow.
    pub results: usize,
    /// What ENDs put out.
    pub outputs: Vec<Source>,
    /// How many branches are inside each other at most.
    pub max_branch_depth: usize,
}

/// A MEMORY instruction that varies with its loop's index: word `base + (index + carry) * step`, modulo 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurningMemory {
    /// Word that steps are counted from.
    pub base: u8,
    /// Words from one turn of the loop to the next.
    pub step: u8,
    /// Turns that are added to the loop index.
    pub carry: u8,
}

/// A part of [`LaneProgram::outputs`] or [`LaneProgram::turning_memory`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Index of the first.
    pub first: u16,
    /// How many there are; may be none.
    pub count: u16,
}

impl Part {
    /// The indices.
    pub fn range(self) -> std::ops::Range<usize> {
        let first = usize::from(self.first);
        first..first + usize::from(self.count)
    }
}

/// What lanes do next. Distances are in steps, from the step after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Computes.
    Compute(Compute),
    /// Starts a loop.
    Loop {
        /// The loop's memory words.
        memory: Part,
    },
    /// Ends a turn of a loop, and goes back unless it was the last.
    EndLoop {
        /// What it puts out.
        outputs: Part,
        /// The loop's memory words.
        memory: Part,
        /// How many turns the loop takes.
        turns: u16,
        /// Distance of the first step of the loop, backwards.
        back: u16,
    },
    /// Enters the first body of a branch with the lanes of which `bits` of source `a` are not all zero. If there are
    /// none, may enter the second body instead.
    If {
        /// What the condition looks at.
        a: Source,
        /// The bits that it looks at.
        bits: u8,
        /// Distance of the second body.
        otherwise: u16,
    },
    /// Ends the first body, and enters the second with the other lanes. If there are none, may go past it.
    Else {
        /// What it puts out.
        outputs: Part,
        /// Distance of what follows the branch.
        past: u16,
    },
    /// Ends the second body.
    EndIf {
        /// What it puts out.
        outputs: Part,
    },
}

/// A computation. Sources of 32-bit operands are those of index 0; of pairs that of the low word comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    /// What to compute.
    pub op: Op,
    /// Whether operand B is `immediate`.
    pub is_immediate: bool,
    /// Source of the first result; the others follow.
    pub out: Source,
    /// Operand A.
    pub a: [Source; 2],
    /// Operand B; as operand A if it is an immediate.
    pub b: [Source; 2],
    /// Operand B, if it is one: 32-bit kinds take its low word.
    pub immediate: u64,
}

impl LaneProgram {
    /// Lowers `program`.
    pub fn new(program: &Program) -> Self {
        let mut lowering = Lowering::new(program.max_registers());
        for instruction in program.instructions() {
            lowering.lower(*instruction);
        }
        lowering.finish()
    }

    /// The first source of a varying MEMORY.
    pub fn first_turning(&self) -> usize {
        self.inputs.len() + self.fixed_memory.len()
    }

    /// The first source of a result.
    pub fn first_result(&self) -> usize {
        self.first_turning() + self.turning_memory.len()
    }
}

/// A value, in the order in which they come up. Steps hold values until [`Lowering::finish`] knows their sources.
#[derive(Clone, Copy)]
struct Value {
    /// The depth of the innermost loop that it varies in.
    level: u16,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Input(u16),
    FixedMemory(u16),
    /// Of the loop `region`.
    TurningMemory {
        region: u16,
        index: u16,
    },
    /// Result that is computed before loop `region`.
    Hoisted {
        region: u16,
        index: u16,
    },
    /// Result that is computed in loop `region`, at this height of its stack.
    Local {
        region: u16,
        height: u16,
    },
}

/// The results of a loop. First those that are computed before it, then a stack of those that vary in it, then the
/// loops inside, which begin at the height that the stack has reached there.
struct Region {
    parent: u16,
    opened_at: u16,
    hoisted: u16,
    /// Highest its stack gets, without the loops inside.
    top: u16,
    /// Where its varying memory words begin, once it is closed.
    memory: u16,
}

/// A loop that is open.
struct Frame {
    region: u16,
    /// The steps of a turn. Those of loops inside are added when they close, after what was computed for them.
    steps: Vec<Step>,
    height: u16,
    memory: Vec<TurningMemory>,
}

enum Scope {
    Loop {
        height: u16,
    },
    /// With the index of the If, or of the Else.
    Branch {
        height: u16,
        entered_at: usize,
    },
}

struct Lowering {
    /// The value in every slot.
    slots: Vec<u16>,
    values: Vec<Value>,
    regions: Vec<Region>,
    /// Frame 0 holds what is computed once a cycle.
    frames: Vec<Frame>,
    scopes: Vec<Scope>,
    /// Source of every input word that has one.
    input_sources: [Option<u16>; 256],
    branch_depth: usize,
    lowered: LaneProgram,
}

impl Lowering {
    fn new(slots: usize) -> Self {
        let mut lowering = Self {
            slots: vec![0; slots],
            values: Vec::with_capacity(2048),
            regions: Vec::with_capacity(32),
            frames: Vec::with_capacity(16),
            scopes: Vec::with_capacity(32),
            input_sources: [None; 256],
            branch_depth: 0,
            lowered: LaneProgram::default(),
        };
        lowering.open_frame();
        lowering
    }

    fn depth(&self) -> u16 {
        (self.frames.len() - 1) as u16
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("frame 0 is never closed")
    }

    fn open_frame(&mut self) {
        let (parent, opened_at) = self.frames.last().map_or((0, 0), |frame| (frame.region, frame.height));
        let region = self.regions.len() as u16;
        self.regions.push(Region { parent, opened_at, hoisted: 0, top: 0, memory: 0 });
        self.frames.push(Frame { region, steps: Vec::with_capacity(256), height: 0, memory: Vec::new() });
    }

    fn lower(&mut self, instruction: Instruction) {
        match instruction {
            Instruction::Compute { op, out, a, b } => self.compute(op, out, a, b),
            Instruction::Input { out, word } => self.input(out, word),
            Instruction::Memory { out, base, step, carry } => self.memory(out, base, step, carry),
            Instruction::Loop { .. } => {
                let height = self.frame().height;
                self.scopes.push(Scope::Loop { height });
                self.open_frame();
            }
            Instruction::If { condition, a, .. } => {
                let a = self.slots[usize::from(a)];
                let frame = self.frames.last_mut().expect("frame 0 is never closed");
                let (height, entered_at) = (frame.height, frame.steps.len());
                frame.steps.push(Step::If { a, bits: condition.mask() as u8, otherwise: 0 });
                self.scopes.push(Scope::Branch { height, entered_at });
                self.branch_depth += 1;
                self.lowered.max_branch_depth = self.lowered.max_branch_depth.max(self.branch_depth);
            }
            Instruction::End { first, count, closes } => {
                let outputs = self.outputs(first, count);
                self.end(outputs, closes);
            }
        }
    }

    fn push_value(&mut self, slot: u16, level: u16, place: Place) {
        self.slots[usize::from(slot)] = self.values.len() as u16;
        self.values.push(Value { level, place });
    }

    fn input(&mut self, out: u16, word: u8) {
        let inputs = &mut self.lowered.inputs;
        let source = *self.input_sources[usize::from(word)].get_or_insert_with(|| {
            inputs.push(word);
            inputs.len() as u16 - 1
        });
        self.push_value(out, 0, Place::Input(source));
    }

    fn memory(&mut self, out: u16, base: u8, step: u8, carry: u8) {
        if step == 0 {
            let index = self.lowered.fixed_memory.len() as u16;
            self.lowered.fixed_memory.push(base);
            self.push_value(out, 0, Place::FixedMemory(index));
        } else {
            let frame = self.frame();
            let place = Place::TurningMemory { region: frame.region, index: frame.memory.len() as u16 };
            frame.memory.push(TurningMemory { base, step, carry });
            self.push_value(out, self.depth(), place);
        }
    }

    fn compute(&mut self, op: Op, out: u16, a: u16, b: Operand) {
        let kind = op.kind();
        let pair = |slots: &[u16], slot: u16| {
            let slot = usize::from(slot);
            [slots[slot], slots[slot + usize::from(kind.takes_pairs())]]
        };
        let a = pair(&self.slots, a);
        let (b, is_immediate, immediate) = match b {
            Operand::Immediate(value) => (a, true, value),
            Operand::Register(slot) => (pair(&self.slots, slot), false, 0),
        };
        let level = [a, b].as_flattened().iter().map(|value| self.values[usize::from(*value)].level).max();
        let level = level.unwrap_or(0);
        let outputs = kind.outputs();
        let first = self.values.len() as u16;
        let is_local = level == self.depth();
        for i in 0..outputs {
            let place = if is_local {
                let frame = self.frame();
                frame.height += 1;
                Place::Local { region: frame.region, height: frame.height - 1 }
            } else {
                let region = self.frames[usize::from(level) + 1].region;
                let hoisted = &mut self.regions[usize::from(region)].hoisted;
                *hoisted += 1;
                Place::Hoisted { region, index: *hoisted - 1 }
            };
            self.push_value(out + i, level, place);
        }
        let frame = &mut self.frames[usize::from(level)];
        if is_local {
            let top = &mut self.regions[usize::from(frame.region)].top;
            *top = (*top).max(frame.height);
        }
        frame.steps.push(Step::Compute(Compute { op, is_immediate, out: first, a, b, immediate }));
    }

    fn outputs(&mut self, first: u16, count: u16) -> Part {
        let outputs = &mut self.lowered.outputs;
        let part = Part { first: outputs.len() as u16, count };
        outputs.extend_from_slice(&self.slots[usize::from(first)..][..usize::from(count)]);
        part
    }

    fn end(&mut self, outputs: Part, closes: Closes) {
        let scope = self.scopes.pop().expect("a decoded program closes what it opened");
        match (scope, closes) {
            (Scope::Loop { height }, Closes::Loop { count, .. }) => {
                let frame = self.frames.pop().expect("its frame was opened with it");
                let turning = &mut self.lowered.turning_memory;
                let memory = Part { first: turning.len() as u16, count: frame.memory.len() as u16 };
                turning.extend(frame.memory);
                self.regions[usize::from(frame.region)].memory = memory.first;
                let outer = self.frame();
                outer.height = height;
                outer.steps.push(Step::Loop { memory });
                let back = frame.steps.len() as u16 + 1;
                outer.steps.extend(frame.steps);
                outer.steps.push(Step::EndLoop { outputs, memory, turns: count, back });
            }
            (Scope::Branch { height, entered_at }, Closes::Then { .. }) => {
                let frame = self.frame();
                frame.height = height;
                let else_at = frame.steps.len();
                frame.steps.push(Step::Else { outputs, past: 0 });
                if let Step::If { otherwise, .. } = &mut frame.steps[entered_at] {
                    *otherwise = (else_at - entered_at) as u16;
                }
                self.scopes.push(Scope::Branch { height, entered_at: else_at });
            }
            (Scope::Branch { height, entered_at }, _) => {
                self.branch_depth -= 1;
                let frame = self.frame();
                frame.height = height;
                let end_at = frame.steps.len();
                frame.steps.push(Step::EndIf { outputs });
                if let Step::Else { past, .. } = &mut frame.steps[entered_at] {
                    *past = (end_at - entered_at) as u16;
                }
            }
            (Scope::Loop { .. }, _) => unreachable!("a loop's END closes a loop"),
        }
    }

    /// Gives every value its source.
    fn finish(mut self) -> LaneProgram {
        let mut lowered = self.lowered;
        lowered.steps = self.frames.swap_remove(0).steps;
        let mut begins = Vec::with_capacity(self.regions.len());
        for region in &self.regions {
            let begin = begins.get(usize::from(region.parent)).map_or(0, |begin| {
                begin + self.regions[usize::from(region.parent)].hoisted + region.opened_at
            });
            begins.push(begin);
            lowered.results = lowered.results.max(usize::from(begin + region.hoisted + region.top));
        }

        let (first_fixed, first_turning) = (lowered.inputs.len() as u16, lowered.first_turning() as u16);
        let first_result = lowered.first_result() as u16;
        let sources: Vec<Source> = self
            .values
            .iter()
            .map(|value| match value.place {
                Place::Input(source) => source,
                Place::FixedMemory(index) => first_fixed + index,
                Place::TurningMemory { region, index } => {
                    first_turning + self.regions[usize::from(region)].memory + index
                }
                Place::Hoisted { region, index } => first_result + begins[usize::from(region)] + index,
                Place::Local { region, height } => {
                    let region = usize::from(region);
                    first_result + begins[region] + self.regions[region].hoisted + height
                }
            })
            .collect();
        for output in &mut lowered.outputs {
            *output = sources[usize::from(*output)];
        }
        for step in &mut lowered.steps {
            match step {
                Step::Compute(compute) => {
                    for value in [&mut compute.a, &mut compute.b].into_iter().flatten() {
                        *value = sources[usize::from(*value)];
                    }
                    compute.out = sources[usize::from(compute.out)];
                }
                Step::If { a, .. } => *a = sources[usize::from(*a)],
                _ => {}
            }
        }
        lowered
    }
}
