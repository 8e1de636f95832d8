//! Where keys and values live. The engine hands out page numbers; the contents are here.
//!
//! Layers of one reach share page numbers: those that see the whole context form one class, those with a
//! short window another, so that a page of the short class can be given back as soon as it slid out of
//! every window.

use kernels::WeightFormat;
use kernels::attention::{PageFormat, PageShape, Pages};

use model::Config;

/// One class of layers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvClass {
    /// How many positions back its layers see, themselves not counted.
    pub window: usize,
    /// Bytes of one page: 32 positions of all its layers.
    pub page_bytes: usize,
    shape: PageShape,
}

/// Classes of a model and where each layer belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvLayout {
    /// One or two classes, the widest window first.
    pub classes: Vec<KvClass>,
    /// Class and index within it, for each layer.
    layers: Vec<(usize, usize)>,
}

/// The pages of one engine.
pub struct KvCache {
    pub(crate) classes: Vec<Pages>,
    pub(crate) layers: Vec<(usize, usize)>,
}

impl KvLayout {
    /// The layout for a model with weights held in `format`: exact beside exact weights, otherwise in half precision.
    pub fn new(config: &Config, format: WeightFormat) -> Self {
        let format = if format == WeightFormat::F32 { PageFormat::F32 } else { PageFormat::Bf16 };
        let mut windows: Vec<usize> = config.layers.iter().map(|layer| layer.window).collect();
        windows.sort_unstable_by(|a, b| b.cmp(a));
        windows.dedup();
        let mut counts = vec![0; windows.len()];
        let layers = config
            .layers
            .iter()
            .map(|layer| {
                let class = windows.iter().position(|window| *window == layer.window).unwrap_or(0);
                counts[class] += 1;
                (class, counts[class] - 1)
            })
            .collect();
        let (kv_heads, head_dim) = (config.n_kv_head, config.head_dim);
        let class = |(&window, &layers): (&usize, &usize)| {
            let shape = PageShape { layers, kv_heads, head_dim, format };
            KvClass { window, page_bytes: shape.page_bytes(), shape }
        };
        Self { classes: windows.iter().zip(&counts).map(class).collect(), layers }
    }
}

impl KvCache {
    /// Room for `n_pages[c]` pages of each class `c`. Memory is taken from the system as pages are written.
    pub fn new(layout: &KvLayout, n_pages: &[usize]) -> Self {
        assert_eq!(layout.classes.len(), n_pages.len(), "a number of pages for each class");
        let classes =
            layout.classes.iter().zip(n_pages).map(|(class, &n)| Pages::new(class.shape, n)).collect();
        Self { classes, layers: layout.layers.clone() }
    }

    /// Bytes set aside, whether or not they were written yet.
    pub fn bytes(&self) -> usize {
        self.classes.iter().map(|pages| pages.n_pages() * pages.shape().page_bytes()).sum()
    }
}
