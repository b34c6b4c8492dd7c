//! Checks a program and decodes it (spec §5, §6).

use super::instruction::{code, immediate, input_word};
use super::{
    BUFFER_WORDS, Closes, Condition, Fault, Instruction, InvalidProgram, Kind, Op, Operand, Program,
};

/// See [`Program::decode`].
pub(super) fn decode(buffer: Box<[u32; BUFFER_WORDS]>, len: usize) -> Result<Program, InvalidProgram> {
    let words = buffer.get(..len).ok_or(InvalidProgram::TooBig)?;
    let mut decoder = Decoder::new(words);
    let totals = decoder.run().map_err(|fault| InvalidProgram::Malformed { at: decoder.at, fault })?;
    Ok(Program {
        instructions: decoder.instructions,
        max_registers: decoder.max_registers,
        max_loop_depth: decoder.max_loop_depth,
        instruction_bound: totals.bound,
        static_cost: totals.cost,
        reads_word0: decoder.reads_word0,
        buffer,
        len,
    })
}

/// What an open scope is, and where its jumps have to lead.
#[derive(Clone, Copy)]
enum ScopeKind {
    Loop {
        begin: u16,
        count: u16,
    },
    /// The second body must start at word `second`.
    Then {
        branch: usize,
        second: usize,
    },
    /// The branch must end before word `past`. What the first body came to waits here.
    Else {
        end_of_first: usize,
        past: usize,
        first: Totals,
    },
}

/// What the instructions of a scope come to, END included.
#[derive(Clone, Copy, Default)]
struct Totals {
    /// Most instructions that can be executed.
    bound: u64,
    /// See [`Program::static_cost`].
    cost: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.bound = self.bound.saturating_add(other.bound);
        self.cost = self.cost.saturating_add(other.cost);
    }

    fn times(self, count: u64) -> Self {
        Self { bound: self.bound.saturating_mul(count), cost: self.cost.saturating_mul(count) }
    }
}

struct Scope {
    kind: ScopeKind,
    /// Position of its marker on the stack.
    marker: usize,
    /// Slot of its oldest variable.
    first: u16,
    totals: Totals,
}

struct Decoder<'a> {
    words: &'a [u32],
    /// Index of the word that is being looked at.
    at: usize,
    instructions: Vec<Instruction>,
    /// The slot of every entry on the specification's register stack; a marker has none.
    stack: Vec<Option<u16>>,
    scopes: Vec<Scope>,
    /// Slots in use.
    registers: u16,
    max_registers: usize,
    loop_depth: usize,
    max_loop_depth: usize,
    reads_word0: bool,
}

impl<'a> Decoder<'a> {
    fn new(words: &'a [u32]) -> Self {
        Self {
            words,
            at: 0,
            instructions: Vec::with_capacity(words.len()),
            stack: Vec::with_capacity(256),
            scopes: Vec::with_capacity(32),
            registers: 0,
            max_registers: 0,
            loop_depth: 0,
            max_loop_depth: 0,
            reads_word0: false,
        }
    }

    /// Decodes all words. `self.at` is where it failed, if it did.
    fn run(&mut self) -> Result<Totals, Fault> {
        if self.words.first().is_none_or(|word| word & 0xff != code::LOOP) {
            return Err(Fault::NoLoop);
        }
        loop {
            let word = *self.words.get(self.at).ok_or(Fault::Unclosed)?;
            match word & 0xff {
                code::IN => self.input(word),
                code::MEMORY => self.memory(word),
                code::LOOP => self.open_loop(word)?,
                code::IF_LIKELY => self.open_branch(word, Condition::Likely)?,
                code::IF_RANDOM => self.open_branch(word, Condition::Random)?,
                code::END => {
                    if let Some(totals) = self.close_scope()? {
                        return self.finish(totals);
                    }
                }
                code::JMP => return Err(Fault::Branch),
                opcode => self.compute(Op::from_code(opcode).ok_or(Fault::Opcode)?, word)?,
            }
            self.at += 1;
        }
    }

    fn finish(&mut self, totals: Totals) -> Result<Totals, Fault> {
        self.at += 1;
        if self.at == self.words.len() { Ok(totals) } else { Err(Fault::Trailing) }
    }

    fn input(&mut self, word: u32) {
        let input = input_word(word);
        self.reads_word0 |= input == 0;
        let out = self.push_variables(1);
        self.push_instruction(Instruction::Input { out, word: input });
    }

    fn memory(&mut self, word: u32) {
        let out = self.push_variables(1);
        let (base, step, carry) = ((word >> 17) as u8, (word >> 13 & 15) as u8, (word >> 9 & 15) as u8);
        self.push_instruction(Instruction::Memory { out, base, step, carry });
    }

    fn compute(&mut self, op: Op, word: u32) -> Result<(), Fault> {
        let kind = op.kind();
        let a = self.register(word >> 9, kind.takes_pairs())?;
        let b = self.operand_b(word, kind)?;
        let out = self.push_variables(kind.outputs());
        self.push_instruction(Instruction::Compute { op, out, a, b });
        Ok(())
    }

    fn open_loop(&mut self, word: u32) -> Result<(), Fault> {
        let count = match immediate(word) {
            count @ 2..=2047 => count as u16,
            _ => return Err(Fault::LoopCount),
        };
        // Counted when it closes, so that the program's first loop, which is in no scope, is counted alike.
        self.instructions.push(Instruction::Loop { count });
        self.loop_depth += 1;
        self.max_loop_depth = self.max_loop_depth.max(self.loop_depth);
        self.open_scope(ScopeKind::Loop { begin: self.instructions.len() as u16, count });
        Ok(())
    }

    fn open_branch(&mut self, word: u32, condition: Condition) -> Result<(), Fault> {
        if word >> 20 != 2 {
            return Err(Fault::Branch);
        }
        let a = self.register(word >> 9, false)?;
        let branch = self.instructions.len();
        self.push_instruction(Instruction::If { condition, a, otherwise: 0 });
        let second = self.take_jump()?;
        self.open_scope(ScopeKind::Then { branch, second });
        Ok(())
    }

    /// Steps on to the next word, which must be a JMP, and returns the index of the word that it leads to.
    fn take_jump(&mut self) -> Result<usize, Fault> {
        self.at += 1;
        match self.words.get(self.at) {
            Some(word) if word & 0xff == code::JMP => Ok(self.at + (word >> 8) as usize + 1),
            _ => Err(Fault::Branch),
        }
    }

    /// Closes the innermost scope. The totals of the whole program, if it was the first.
    fn close_scope(&mut self) -> Result<Option<Totals>, Fault> {
        let scope = self.scopes.pop().ok_or(Fault::Unclosed)?;
        let count = self.registers - scope.first;
        let mut totals = scope.totals;
        totals.add(Totals { bound: 1, cost: 1 + u64::from(count) });
        self.stack.truncate(scope.marker);
        self.registers = scope.first;
        let end = self.instructions.len();
        let close = |closes| Instruction::End { first: scope.first, count, closes };
        match scope.kind {
            ScopeKind::Loop { begin, count } => {
                self.instructions.push(close(Closes::Loop { begin, count }));
                self.loop_depth -= 1;
                let mut totals = totals.times(count.into());
                totals.add(Totals { bound: 1, cost: 1 });
                let Some(outer) = self.scopes.last_mut() else {
                    return Ok(Some(totals));
                };
                outer.totals.add(totals);
            }
            ScopeKind::Then { branch, second } => {
                self.instructions.push(close(Closes::Then { resume: 0 }));
                self.close_first_body(branch, second, end, totals)?;
            }
            ScopeKind::Else { end_of_first, past, first } => {
                self.instructions.push(close(Closes::Else));
                self.close_second_body(end_of_first, past, first, totals)?;
            }
        }
        Ok(None)
    }

    fn close_first_body(
        &mut self,
        branch: usize,
        second: usize,
        end_of_first: usize,
        first: Totals,
    ) -> Result<(), Fault> {
        let past = self.take_jump()?;
        if second != self.at + 1 {
            return Err(Fault::Branch);
        }
        let next = self.instructions.len() as u16;
        if let Instruction::If { otherwise, .. } = &mut self.instructions[branch] {
            *otherwise = next;
        }
        self.open_scope(ScopeKind::Else { end_of_first, past, first });
        Ok(())
    }

    fn close_second_body(
        &mut self,
        end_of_first: usize,
        past: usize,
        first: Totals,
        second: Totals,
    ) -> Result<(), Fault> {
        if past != self.at + 1 {
            return Err(Fault::Branch);
        }
        let next = self.instructions.len() as u16;
        if let Instruction::End { closes: Closes::Then { resume }, .. } = &mut self.instructions[end_of_first]
        {
            *resume = next;
        }
        let both =
            Totals { bound: first.bound.max(second.bound), cost: first.cost.saturating_add(second.cost) };
        self.add_to_scope(both);
        Ok(())
    }

    fn open_scope(&mut self, kind: ScopeKind) {
        let scope =
            Scope { kind, marker: self.stack.len(), first: self.registers, totals: Totals::default() };
        self.scopes.push(scope);
        self.stack.push(None);
    }

    /// Puts `count` variables on the stack and returns the slot of the first.
    fn push_variables(&mut self, count: u16) -> u16 {
        let first = self.registers;
        self.registers += count;
        self.stack.extend((first..self.registers).map(Some));
        self.max_registers = self.max_registers.max(self.registers.into());
        first
    }

    fn push_instruction(&mut self, instruction: Instruction) {
        self.add_to_scope(Totals { bound: instruction.executed().into(), cost: 1 });
        self.instructions.push(instruction);
    }

    fn add_to_scope(&mut self, totals: Totals) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.totals.add(totals);
        }
    }

    fn operand_b(&self, word: u32, kind: Kind) -> Result<Operand, Fault> {
        if !kind.has_b() {
            Ok(Operand::Immediate(0))
        } else if word & (1 << 18) != 0 {
            Ok(Operand::Immediate(immediate(word)))
        } else {
            self.register(word >> 20, kind.takes_pairs()).map(Operand::Register)
        }
    }

    /// The slot of the register, or of the lower one of the pair, that the low 9 bits of `field` name.
    fn register(&self, field: u32, pair: bool) -> Result<u16, Fault> {
        let position = (field & 511) as usize;
        let slot = |position: usize| self.stack.get(position).copied().flatten().ok_or(Fault::Operand);
        let upper = slot(position)?;
        if pair { slot(position.wrapping_sub(1)) } else { Ok(upper) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP3: u32 = code::LOOP | 3 << 20;
    const IN5: u32 = code::IN | 5 << 20;
    const ADD32: u32 = Op::Add32 as u32;
    const MUL64: u32 = Op::Mul64 as u32;
    const END: u32 = code::END;

    fn program(words: &[u32]) -> Result<Program, InvalidProgram> {
        let mut buffer = Box::new([0; BUFFER_WORDS]);
        buffer[..words.len()].copy_from_slice(words);
        decode(buffer, words.len())
    }

    fn jump(distance: u32) -> u32 {
        code::JMP | distance << 8
    }

    fn branch_on(register: u32) -> u32 {
        code::IF_RANDOM | register << 9 | 2 << 20
    }

    #[test]
    fn registers_become_slots_without_the_markers() {
        let words = [
            LOOP3,
            IN5,                      // register 1
            ADD32 | 1 << 9 | 1 << 20, // register 2
            code::LOOP | 10 << 20,    // marker 3
            IN5,                      // register 4
            IN5,                      // register 5
            MUL64 | 5 << 9 | 2 << 20,
            END,
            END,
        ];
        let program = program(&words).expect("a valid program");
        let b = Operand::Register(0);
        assert_eq!(program.instructions()[2], Instruction::Compute { op: Op::Add32, out: 1, a: 0, b });
        assert_eq!(program.instructions()[6], Instruction::Compute { op: Op::Mul64, out: 4, a: 2, b });
        let closes = Closes::Loop { begin: 4, count: 10 };
        assert_eq!(program.instructions()[7], Instruction::End { first: 2, count: 4, closes });
        assert_eq!((program.max_registers(), program.max_loop_depth()), (6, 2));
        assert_eq!(program.instruction_bound(), 1 + 3 * (3 + 10 * 4 + 1));
        assert_eq!(program.static_cost(), 1 + 3 * (3 + 10 * (4 + 4) + 1 + 2));
        assert!(!program.reads_word0());
    }

    #[test]
    fn jumps_are_folded_into_the_branch() {
        let words = [LOOP3, IN5, branch_on(1), jump(3), IN5, END, jump(1), END, END];
        let program = program(&words).expect("a valid program");
        let condition = Condition::Random;
        assert_eq!(program.instructions()[2], Instruction::If { condition, a: 0, otherwise: 5 });
        let closes = Closes::Then { resume: 6 };
        assert_eq!(program.instructions()[4], Instruction::End { first: 1, count: 1, closes });
        assert_eq!(program.instructions()[5], Instruction::End { first: 1, count: 0, closes: Closes::Else });
        assert_eq!(program.instruction_bound(), 1 + 3 * (1 + 2 + 2 + 1), "the longer body counts");
        assert_eq!(program.static_cost(), 1 + 3 * (1 + 1 + 3 + 1 + 1 + 1), "both bodies count");
    }

    #[test]
    fn an_input_of_word_0_is_seen_however_it_is_written() {
        for (word, reads_word0) in [
            (code::IN, true),
            (code::IN | 256 << 20, true),
            (code::IN | 1 << 18, true),
            (code::IN | 1 << 19, false),
            (code::IN | 255 << 20, false),
        ] {
            let program = program(&[LOOP3, word, END]).expect("a valid program");
            assert_eq!(program.reads_word0(), reads_word0, "{word:#x}");
        }
    }

    #[test]
    fn every_fault_is_found_at_its_place() {
        let add = ADD32 | 1 << 9;
        let cases: &[(&[u32], usize, Fault)] = &[
            (&[], 0, Fault::NoLoop),
            (&[IN5], 0, Fault::NoLoop),
            (&[LOOP3, 0, END], 1, Fault::Opcode),
            (&[LOOP3, 71, END], 1, Fault::Opcode),
            (&[code::LOOP | 1 << 20, END], 0, Fault::LoopCount),
            (&[code::LOOP | 2048 << 20, END], 0, Fault::LoopCount),
            (&[LOOP3, 1 | 2 << 9, END], 1, Fault::Operand),
            (&[LOOP3, 1, END], 1, Fault::Operand),
            (&[LOOP3, IN5, add | 3 << 20, END], 2, Fault::Operand),
            (&[LOOP3, IN5, MUL64 | 1 << 9 | 1 << 18, END], 2, Fault::Operand),
            (&[LOOP3, IN5, jump(0), END], 2, Fault::Branch),
            (&[LOOP3, IN5, branch_on(1), IN5, END, END, END], 3, Fault::Branch),
            (&[LOOP3, IN5, branch_on(1), jump(2), END, IN5, END, END], 5, Fault::Branch),
            (&[LOOP3, IN5, branch_on(1), jump(3), END, jump(1), END, END], 5, Fault::Branch),
            (&[LOOP3, IN5, branch_on(1), jump(2), END, jump(2), END, END], 6, Fault::Branch),
            (&[LOOP3, IN5], 2, Fault::Unclosed),
            (&[LOOP3, END, IN5], 2, Fault::Trailing),
        ];
        for (words, at, fault) in cases {
            let error = program(words).map(|_| ()).expect_err("an invalid program");
            assert_eq!(error, InvalidProgram::Malformed { at: *at, fault: *fault }, "{words:x?}");
        }
        assert_eq!(decode(Box::new([0; BUFFER_WORDS]), 2049).map(|_| ()), Err(InvalidProgram::TooBig));
    }

    #[test]
    fn bounds_stop_at_the_largest_number() {
        let mut words = vec![code::LOOP | 2047 << 20; 900];
        words.extend([END; 900]);
        let program = program(&words).expect("a valid program");
        assert_eq!((program.instruction_bound(), program.static_cost()), (u64::MAX, u64::MAX));
        assert!(!program.is_bounded());
    }
}
