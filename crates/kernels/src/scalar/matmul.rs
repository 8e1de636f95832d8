//! `y[r][o] = Σₖ x[r][k] · w[o][k]`, k ascending; with whole numbers group by group.

use crate::matmul::{Epilogue, Panels};
use crate::packed::GroupShape;
use crate::tile::PANEL;

pub(crate) fn multiply(job: &Panels<'_>) {
    let outputs = job.w.outputs();
    for output in job.first * PANEL..(job.last * PANEL).min(outputs) {
        for row in 0..job.x.rows() {
            let sum = match job.w.format().group() {
                None => sum(job, row, output),
                Some(group) => sum_of_groups(job, group, row, output),
            };
            // SAFETY: the row and the column exist (asserted in `matmul`) and the column is this task's.
            let y = unsafe { &mut *job.out.get().add(row * outputs + output) };
            *y = match job.epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => *y + sum,
            };
        }
    }
}

fn sum(job: &Panels<'_>, row: usize, output: usize) -> f32 {
    let x = &job.x.exact()[row * job.x.width()..][..job.x.width()];
    x.iter().enumerate().map(|(k, x)| x * job.w.at(output, k)).sum()
}

fn sum_of_groups(job: &Panels<'_>, group: GroupShape, row: usize, output: usize) -> f32 {
    let prepared = job.x.prepared();
    let words = &prepared.words[row * prepared.row_words..][..prepared.row_words];
    let mut total = 0.0f32;
    for g in 0..prepared.groups {
        let dot = |k: usize| {
            let x = (words[k / 4] >> (8 * (k % 4))) as i8;
            i32::from(x) * job.w.at(output, k) as i32
        };
        let sum: i32 = (g * group.inputs..((g + 1) * group.inputs).min(job.w.inputs())).map(dot).sum();
        let scaled = sum as f32 * job.w.scale_at(output, g, group);
        total = scaled.mul_add(prepared.scales[row * prepared.groups + g], total);
    }
    total
}
