//! Tells submissions that were carried out from those that a driver gave up without a word.
//!
//! Metal counts a submission that was stopped half way, as its watchdog does, as one that has ended, and says so
//! nowhere. What is read back is then what lay there before: an older submission's answer. So each is sent a number of
//! its own, behind all other uploads; its last dispatch hands the number on, behind all others; and it is read back
//! last of all. Only if every part was carried out does the right one arrive.

use super::super::context::{Access, Gpu, GpuError, Shader};
use super::super::source::Part;

/// Bytes of a number.
pub const NUMBER_LEN: u64 = 8;

/// The pass.
pub struct Done {
    shader: Shader,
}

/// Memory for the number of a submission in flight.
pub struct Number {
    sent: wgpu::Buffer,
    done: wgpu::Buffer,
    binding: wgpu::BindGroup,
}

impl Done {
    /// Builds the shader.
    ///
    /// # Errors
    /// If it does not compile on this device.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let parts = [Part::Text(include_str!("../../../../shaders/done.wgsl"))];
        Ok(Self { shader: gpu.shader("done", &parts, &[], &[Access::Read, Access::Write])? })
    }

    /// Memory for a submission in flight.
    pub fn number(&self, gpu: &Gpu) -> Number {
        let (sent, done) = (gpu.buffer("sent", NUMBER_LEN), gpu.buffer("done", NUMBER_LEN));
        let binding =
            self.shader.bind(gpu, &[sent.as_entire_buffer_binding(), done.as_entire_buffer_binding()]);
        Number { sent, done, binding }
    }

    /// Hands the number on; to be encoded behind all else.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, number: &Number) {
        self.shader.dispatch(pass, &number.binding, &[0], 1);
    }
}

impl Number {
    /// Where a submission's number is to be written, behind all that it needs.
    pub fn sent(&self) -> &wgpu::Buffer {
        &self.sent
    }

    /// The number of the last submission that was carried out.
    pub fn done(&self) -> &wgpu::Buffer {
        &self.done
    }
}
