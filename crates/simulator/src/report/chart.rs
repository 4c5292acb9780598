use std::fmt::Write;

use super::{Report, Sample};

const WIDTH: f64 = 30.0;

impl Report {
    /// The run as text, one line for each sample: rates a second, the goodput as a bar, the longest queue, the 99th
    /// percentile of the latency, the gauges, and the failures by kind.
    #[must_use]
    pub fn chart(&self) -> String {
        let seconds = self.interval.as_secs_f64();
        let most = self.samples.iter().map(|sample| sample.answered).max().unwrap_or(0).max(1) as f64;
        let mut chart =
            "   time | offered attempts | goodput                              |  queue      p99 |\n"
                .to_owned();
        for sample in &self.samples {
            let rate = |count: u64| (count as f64 / seconds).round();
            let bar = (sample.answered as f64 / most * WIDTH).round() as usize;
            let latency =
                sample.latency.quantile(0.99).map_or("-".to_owned(), |latency| format!("{latency:.0?}"));
            // Writing to a string does not fail.
            let _ = write!(
                chart,
                "{:>5.0} s | {:>7} {:>8} | {:>5} {:<30} | {:>6} {latency:>8} |",
                sample.from.as_secs_f64(),
                rate(sample.offered),
                rate(sample.attempts),
                rate(sample.answered),
                "█".repeat(bar),
                sample.queue,
            );
            self.write_rest(&mut chart, sample);
            chart.push('\n');
        }
        chart
    }

    fn write_rest(&self, chart: &mut String, sample: &Sample) {
        for (name, value) in self.gauges.iter().zip(&sample.gauges) {
            let _ = write!(chart, " {name} {value:.4}");
        }
        for (kind, count) in self.kinds.iter().zip(&sample.failures).filter(|&(_, &count)| count > 0) {
            let _ = write!(chart, " {kind} {count}");
        }
    }
}
