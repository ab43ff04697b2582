//! Figures: medians, marks, and the rows of the table.

use serde::Serialize;

/// What a figure should keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    AtMost(f64),
    AtLeast(f64),
}

impl Mark {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    fn text(self) -> String {
        let sign = if matches!(self, Self::AtMost(_)) { "≤" } else { "≥" };
        format!("{sign} {}", self.bound())
    }

    fn bound(self) -> f64 {
        match self {
            Self::AtMost(bound) | Self::AtLeast(bound) => bound,
        }
    }
}

/// A row of the table and an element of `target/bench.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: String,
    /// The bound; `holds` says whether the value is on its good side.
    mark: Option<f64>,
    holds: Option<bool>,
    /// What the value is the median of, in the order measured.
    samples: Vec<f64>,
    #[serde(skip)]
    bound: Option<Mark>,
}

impl Figure {
    /// The median of `samples`.
    pub(crate) fn new(name: impl Into<String>, unit: &str, samples: Vec<f64>) -> Self {
        let value = median(&samples);
        let samples = samples.into_iter().map(rounded).collect();
        Self {
            name: name.into(),
            value: rounded(value),
            unit: unit.to_owned(),
            mark: None,
            holds: None,
            samples,
            bound: None,
        }
    }

    /// Sets the mark.
    #[must_use]
    pub(crate) fn mark(mut self, mark: Mark) -> Self {
        self.mark = Some(mark.bound());
        self.holds = Some(mark.holds(self.value));
        self.bound = Some(mark);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How much of what its mark allows it takes: 1 at the mark, more beyond it; nothing without a mark, or of one that
    /// allows nothing.
    pub(crate) fn share(&self) -> Option<f64> {
        let share = match self.bound? {
            Mark::AtMost(bound) => self.value / bound,
            Mark::AtLeast(bound) => bound / self.value,
        };
        share.is_finite().then_some(share)
    }

    /// Value, unit and mark.
    pub(crate) fn beside_its_mark(&self) -> String {
        let mark = self.bound.map_or(String::new(), |mark| format!(", {}", mark.text()));
        format!("{} {}{mark}", short(self.value), self.unit)
    }
}

/// Lines of columns under their headings.
pub(crate) fn table(figures: &[Figure]) -> String {
    let heading = ["name", "value", "unit", "mark", "holds", "samples"].map(str::to_owned);
    let mut rows = vec![heading];
    rows.extend(figures.iter().map(|figure| {
        let holds = figure.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
        let samples: Vec<_> = figure.samples.iter().map(|&sample| short(sample)).collect();
        [
            figure.name.clone(),
            short(figure.value),
            figure.unit.clone(),
            figure.bound.map_or(String::new(), Mark::text),
            holds.to_owned(),
            if samples.len() > 1 { samples.join(" ") } else { String::new() },
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 6]| {
        let [name, value, unit, mark, holds, samples] = row;
        let [w0, w1, w2, w3, w4, _] = widths;
        let line = format!("{name:w0$}  {value:>w1$}  {unit:w2$}  {mark:w3$}  {holds:w4$}  {samples}");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The middle value; of an even number the mean of the two in the middle.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The slope of the least-squares line through points.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    covariance / points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
}

/// To four significant digits or to whole numbers: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = (3.0 - value.abs().log10().floor()).max(0.0);
    let scale = 10f64.powf(digits);
    (value * scale).round() / scale
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        10.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_slope_of_a_line_is_found_whatever_its_height() {
        assert!(
            (slope(&[(2_000.0, 20_000.0), (8_000.0, 50_000.0), (16_000.0, 90_000.0)]) - 5.0).abs() < 1e-9
        );
    }

    #[test]
    fn a_mark_holds_on_its_own_side() {
        let figure = |value, mark| Figure::new("f", "", vec![value]).mark(mark).holds;
        assert_eq!(figure(1.3, Mark::AtMost(1.3)), Some(true));
        assert_eq!(figure(1.31, Mark::AtMost(1.3)), Some(false));
        assert_eq!(figure(0.5, Mark::AtLeast(0.5)), Some(true));
        assert_eq!(figure(0.49, Mark::AtLeast(0.5)), Some(false));
    }

    #[test]
    fn figures_are_written_with_the_six_fields_that_later_ones_share() {
        let figure = Figure::new("ratio", "x", vec![1.0, 3.0, 2.0]).mark(Mark::AtMost(2.5));
        let json = serde_json::to_value(figure).unwrap();
        let expected = serde_json::json!({
            "name": "ratio", "value": 2.0, "unit": "x", "mark": 2.5, "holds": true, "samples": [1.0, 3.0, 2.0]
        });
        assert_eq!(json, expected);
    }
}
