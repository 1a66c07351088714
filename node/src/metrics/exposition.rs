//! Prometheus's text format, version 0.0.4: families with HELP and TYPE, samples with escaped labels.
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>)

use std::fmt::Write;

use super::{Family, Kind, Sample};

/// A page of metrics in the making. The caller writes each family once, its samples right after it.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family.
    pub fn family(&mut self, family: &Family) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(family.name, family.help, kind);
    }

    /// One value of the family begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            self.text.push(open);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(text, &mut self.text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        push(&mut self.text, format_args!(" {value}\n"));
    }

    /// Begins a family of histograms.
    pub fn histogram_family(&mut self, name: &str, help: &str) {
        self.head(name, help, "histogram");
    }

    /// One histogram in seconds, from counts per bucket (the last one unbounded), bounds in microseconds and a sum in nanoseconds.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds_us: &[u64],
        buckets: &[u64],
        sum_ns: u64,
    ) {
        assert_eq!(buckets.len(), bounds_us.len() + 1, "the last bucket has no bound");
        let mut total = 0;
        for (index, count) in buckets.iter().enumerate() {
            total += count;
            let bound = bounds_us.get(index).map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.sample(&format!("{name}_bucket"), &labels, total as f64);
        }
        self.sample(&format!("{name}_sum"), labels, sum_ns as f64 / 1e9);
        self.sample(&format!("{name}_count"), labels, total as f64);
    }

    /// Samples of any families, in any order: grouped by family, families in order of first appearance.
    pub fn samples(&mut self, samples: &[Sample]) {
        let mut families: Vec<&'static Family> = Vec::new();
        for sample in samples {
            if !families.iter().any(|family| family.name == sample.family.name) {
                families.push(sample.family);
            }
        }
        for family in families {
            self.family(family);
            for sample in samples.iter().filter(|sample| sample.family.name == family.name) {
                let labels: Vec<(&str, &str)> =
                    sample.labels.iter().map(|(name, text)| (*name, text.as_str())).collect();
                self.sample(family.name, &labels, sample.value);
            }
        }
    }

    /// The finished page.
    pub fn into_string(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        push(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes every text");
}

fn escape(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FREE: Family = Family { name: "basalt_free_bytes", help: "Free.", kind: Kind::Gauge };
    static READS: Family = Family { name: "basalt_reads_total", help: "Reads.", kind: Kind::Counter };

    fn sample(family: &'static Family, device: &str, value: f64) -> Sample {
        Sample { family, labels: vec![("device", device.to_owned())], value }
    }

    #[test]
    fn samples_of_one_family_stand_together_under_one_head() {
        let mut out = Exposition::new();
        out.samples(&[sample(&FREE, "a", 1.0), sample(&READS, "a", 2.0), sample(&FREE, "b", 3.0)]);
        assert_eq!(
            out.into_string(),
            "# HELP basalt_free_bytes Free.\n# TYPE basalt_free_bytes gauge\n\
             basalt_free_bytes{device=\"a\"} 1\nbasalt_free_bytes{device=\"b\"} 3\n\
             # HELP basalt_reads_total Reads.\n# TYPE basalt_reads_total counter\nbasalt_reads_total{device=\"a\"} 2\n"
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut out = Exposition::new();
        out.sample("x", &[("a", "q\"b\\s\nn")], 0.5);
        assert_eq!(out.into_string(), "x{a=\"q\\\"b\\\\s\\nn\"} 0.5\n");
    }

    #[test]
    fn a_sample_without_labels_has_no_braces() {
        let mut out = Exposition::new();
        out.sample("x", &[], 12_345_678_901.0);
        assert_eq!(out.into_string(), "x 12345678901\n");
    }
}
