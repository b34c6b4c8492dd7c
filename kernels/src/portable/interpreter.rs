//! Runs a program over a state (spec §6).

use super::ops::{Frame, execute};
use super::state::{HALF, State};
use crate::program::{Closes, INSTRUCTION_LIMIT, Instruction, InvalidProgram, MEMORY_WORDS, Program};

/// Runs programs. Keeps the memory for it from one run to the next.
#[derive(Default)]
pub struct Interpreter {
    registers: Vec<u32>,
    /// The index of every running loop, innermost last.
    loops: Vec<u32>,
}

impl Interpreter {
    /// An interpreter that any program can be run with.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs both cycles of `program` as item number `item`.
    ///
    /// # Errors
    /// [`InvalidProgram::TooLong`] if a cycle reaches 20001 instructions. The state is then of no use.
    pub fn run(&mut self, program: &Program, item: u32, state: &mut State) -> Result<(), InvalidProgram> {
        if program.is_bounded() {
            self.run_cycles::<false>(program, item, state)?;
        } else {
            self.run_cycles::<true>(program, item, state)?;
        }
        Ok(())
    }

    /// Like [`run`](Self::run), and counts the executed instructions of both cycles.
    ///
    /// # Errors
    /// [`InvalidProgram::TooLong`] as above.
    pub fn run_counting(
        &mut self,
        program: &Program,
        item: u32,
        state: &mut State,
    ) -> Result<[u32; 2], InvalidProgram> {
        self.run_cycles::<true>(program, item, state)
    }

    fn run_cycles<const COUNTING: bool>(
        &mut self,
        program: &Program,
        item: u32,
        state: &mut State,
    ) -> Result<[u32; 2], InvalidProgram> {
        if self.registers.len() < program.max_registers() {
            self.registers.resize(program.max_registers(), 0);
        }
        let mut words = state.words();
        let [left, right] = &mut words;
        let memory = program.memory_of(item);
        let first = self.run_cycle::<COUNTING>(program.instructions(), memory, left, right)?;
        let second = self.run_cycle::<COUNTING>(program.instructions(), memory, right, left)?;
        state.set_words(&words);
        Ok([first, second])
    }

    /// One cycle; the number of executed instructions if they are counted, else zero.
    fn run_cycle<const COUNTING: bool>(
        &mut self,
        instructions: &[Instruction],
        memory: &[u32; MEMORY_WORDS],
        input: &[u32; HALF],
        output: &mut [u32; HALF],
    ) -> Result<u32, InvalidProgram> {
        let registers = self.registers.as_mut_slice();
        let mut at = 0;
        let mut loop_index = 0;
        let mut output_at = 0u8;
        let mut executed = 0;
        while let Some(instruction) = instructions.get(at) {
            at += 1;
            if COUNTING {
                executed += instruction.executed();
                if executed >= INSTRUCTION_LIMIT {
                    return Err(InvalidProgram::TooLong);
                }
            }
            match *instruction {
                Instruction::Compute { op, out, a, b } => execute(op, Frame { registers, out, a, b }),
                Instruction::Input { out, word } => registers[usize::from(out)] = input[usize::from(word)],
                Instruction::Memory { out, base, step, carry } => {
                    let turn = (loop_index as u8).wrapping_add(carry);
                    let word = base.wrapping_add(turn.wrapping_mul(step));
                    registers[usize::from(out)] = memory[usize::from(word)];
                }
                Instruction::Loop { .. } => {
                    self.loops.push(loop_index);
                    loop_index = 0;
                }
                Instruction::If { condition, a, otherwise } => {
                    if registers[usize::from(a)] & condition.mask() == 0 {
                        at = otherwise.into();
                    }
                }
                Instruction::End { first, count, closes } => {
                    for value in &registers[usize::from(first)..][..usize::from(count)] {
                        let word = &mut output[usize::from(output_at)];
                        *word = word.wrapping_add(*value);
                        output_at = output_at.wrapping_add(1);
                    }
                    match closes {
                        Closes::Loop { begin, count } => {
                            loop_index += 1;
                            if loop_index < u32::from(count) {
                                at = begin.into();
                            } else {
                                loop_index = self.loops.pop().unwrap_or(0);
                            }
                        }
                        Closes::Then { resume } => at = resume.into(),
                        Closes::Else => {}
                    }
                }
            }
        }
        Ok(executed)
    }
}
