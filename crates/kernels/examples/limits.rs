use kernels::*;
fn main() {
    for isa in Isa::available() { for format in [WeightFormat::F32, WeightFormat::Bf16] {
        if isa.name()=="scalar" { continue }
        let c = Compute::new(isa, 2);
        let ws: Vec<Packed> = (0..12).flat_map(|_| [(2304,768),(768,768),(3072,768),(768,3072)]).map(|(o,i)| { let mut w=Packed::zeros(format,o,i); w.set_rows(0,&vec![0.01;o*i]); w}).collect();
        for m in [1usize,2,4,8,16,64,512] {
            let flops: f64 = ws.iter().map(|w| 2.0*(w.inputs()*w.outputs()*m) as f64).sum();
            let bytes: f64 = ws.iter().map(|w| w.bytes() as f64).sum();
            let xs = vec![0.5f32; m*3072]; let mut y = vec![0.0f32; m*3072];
            let mut best=f64::MAX;
            for _ in 0..if m>100 {3} else {10} { let t=std::time::Instant::now(); for w in &ws { matmul(&c,&xs[..m*w.inputs()],w,Epilogue::Store,&mut y[..m*w.outputs()]); } best=best.min(t.elapsed().as_secs_f64()); }
            println!("{} {format:?} m={m}: {:.2} ms {:.1} GB/s {:.0} GFLOP/s {:.0} tok/s", isa.name(), best*1e3, bytes/best/1e9, flops/best/1e9, m as f64/best);
        }
    }}
}
