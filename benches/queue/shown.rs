//! How figures are printed.

use sexton::bench::Figure;

pub(crate) trait Shown {
    /// Prints it; nothing, where it was not measured.
    fn print(&self);
}

impl Shown for Figure {
    fn print(&self) {
        let Some(measured) = self.summary() else { return };
        let shown = format!("{measured} {}", self.unit);
        let bare = match (self.bare_summary(), self.ratio_summary()) {
            (Some(bare), Some(ratio)) => format!("bare {bare}   ratio {ratio}"),
            _ => String::new(),
        };
        println!("{:<36} {shown:<44} {bare}", self.name);
    }
}

pub(crate) fn print_head() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("{processors} processors, load {}", load.split(' ').next().unwrap_or("unknown"));
    println!("median (least to greatest)\n");
}
