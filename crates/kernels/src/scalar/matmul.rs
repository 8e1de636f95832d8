//! `y[r][o] = Σₖ x[r][k] · w[o][k]`, k ascending.

use crate::matmul::{Epilogue, Panels};
use crate::tile::PANEL;

pub(crate) fn multiply(job: &Panels<'_>) {
    let (inputs, outputs) = (job.w.inputs(), job.w.outputs());
    for output in job.first * PANEL..(job.last * PANEL).min(outputs) {
        for (row, x) in job.x.chunks_exact(inputs).enumerate() {
            let mut sum = 0.0f32;
            for (k, &x) in x.iter().enumerate() {
                sum += x * job.w.at(output, k);
            }
            // SAFETY: the row and the column exist (asserted in `matmul`) and the column is this task's.
            let y = unsafe { &mut *job.out.get().add(row * outputs + output) };
            *y = match job.epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => *y + sum,
                Epilogue::ReluSquared => sum.max(0.0) * sum.max(0.0),
            };
        }
    }
}
