//! What handing out a job costs, the job itself being nothing.

use divan::{Bencher, black_box};

use crate::compute;

#[divan::bench(args = [1, 2, 16, 96])]
fn dispatch(bencher: Bencher<'_, '_>, tasks: usize) {
    let compute = compute();
    bencher.bench_local(|| compute.pool.run(tasks, &|task| _ = black_box(task)));
}
