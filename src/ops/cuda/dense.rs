//! Products with weights.

use super::buffer::Buffer;
use super::device::{Device, Element, Gemm};
use super::engine::Cuda;
use super::shapes::{expect, matrix};
use crate::Result;

impl<D: Device> Cuda<D> {
    pub(super) fn dense(&self, x: &Buffer<D>, weight: &Buffer<D>, bias: Option<&Buffer<D>>) -> Result<Buffer<D>> {
        let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
        expect("the weight", weight, &[outputs, inputs])?;
        if let Some(bias) = bias {
            expect("the bias", bias, &[outputs])?;
        }
        let (out, to) = self.make(&[tokens, outputs], self.between())?;
        let gemm = Gemm {
            m: tokens,
            n: outputs,
            k: inputs,
            a: self.operand(x, false)?,
            b: self.operand(weight, true)?,
            inputs: self.products,
            out: to.f32.max(to.bf16),
            output: self.products,
            onto: None,
            bias: bias.map(|bias| self.address(bias, self.products)).transpose()?,
        };
        // SAFETY: the shapes were checked, the output made for them.
        unsafe { self.product(&gemm)? };
        Ok(out)
    }

    pub(super) fn dense_backward(
        &self,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        onto: Option<Buffer<D>>,
    ) -> Result<(Buffer<D>, Buffer<D>)> {
        let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
        expect("the weight", weight, &[outputs, inputs])?;
        expect("the gradient", dy, &[tokens, outputs])?;
        // A gradient that is added onto another is the residual stream's: f32.
        let (dx, to, output, onto) = match onto {
            Some(onto) => {
                expect("what to add onto", &onto, &[tokens, inputs])?;
                let (dx, to) = self.owned(onto)?;
                (dx, to, Element::F32, Some(to))
            }
            None => {
                let (dx, form) = self.make(&[tokens, inputs], self.between())?;
                (dx, form.f32.max(form.bf16), self.products, None)
            }
        };
        let (a, b) = (self.operand(dy, false)?, self.operand(weight, false)?);
        let gemm =
            Gemm { m: tokens, n: inputs, k: outputs, a, b, inputs: self.products, out: to, output, onto, bias: None };
        // SAFETY: the shapes were checked, the output made for them.
        unsafe { self.product(&gemm)? };
        let (dw, to) = self.floats(&[outputs, inputs])?;
        let (a, b) = (self.operand(dy, true)?, self.operand(x, false)?);
        let (out, output) = (to, Element::F32);
        let gemm =
            Gemm { m: outputs, n: inputs, k: tokens, a, b, inputs: self.products, out, output, onto: None, bias: None };
        // SAFETY: as above.
        unsafe { self.product(&gemm)? };
        Ok((dx, dw))
    }
}
