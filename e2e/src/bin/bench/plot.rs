//! The figures that have a mark, as a picture: how much of what the mark allows each of them takes.

use std::fmt::Write as _;

use crate::figures::Figure;

const ROW: usize = 22;
const TOP: usize = 34;
/// Where names end and bars begin.
const NAMES: usize = 270;
/// The width of a bar that takes all that its mark allows.
const LIMIT: usize = 260;
/// Bars end here, however long they would be.
const LONGEST: usize = 420;
const WIDTH: usize = 880;
const GOOD: &str = "#2e7d32";
const BAD: &str = "#c62828";

/// An SVG with a bar for each figure that has a mark.
pub(crate) fn svg(figures: &[Figure]) -> String {
    let rows: Vec<_> = figures.iter().filter_map(|figure| Some((figure, figure.share()?))).collect();
    let height = TOP + ROW * rows.len() + 8;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let limit = NAMES + LIMIT;
    let _ = writeln!(
        out,
        "<text x=\"{limit}\" y=\"18\" text-anchor=\"middle\">the mark</text>\n<line x1=\"{limit}\" y1=\"24\" \
         x2=\"{limit}\" y2=\"{height}\" stroke=\"#888\" stroke-dasharray=\"4 3\"/>"
    );
    for (index, (figure, share)) in rows.into_iter().enumerate() {
        let (top, middle) = (TOP + ROW * index, TOP + ROW * index + 15);
        let width = ((share * LIMIT as f64) as usize).min(LONGEST);
        let color = if share <= 1.0 { GOOD } else { BAD };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n<rect x=\"{NAMES}\" y=\"{}\" \
             width=\"{width}\" height=\"{}\" fill=\"{color}\"/>\n<text x=\"{}\" y=\"{middle}\">{}</text>",
            NAMES - 8,
            figure.name(),
            top + 4,
            ROW - 8,
            NAMES + width.max(LIMIT) + 8,
            figure.beside_its_mark(),
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Mark;

    #[test]
    fn a_bar_is_as_long_as_what_it_takes_of_its_mark() {
        let figures = [
            Figure::new("half", "ms", vec![1.0]).mark(Mark::AtMost(2.0)),
            Figure::new("short-of-it", "msg/s", vec![5.0]).mark(Mark::AtLeast(6.0)),
            Figure::new("without", "ms", vec![1.0]),
        ];
        let svg = svg(&figures);
        assert!(svg.contains(&format!("width=\"{}\" height=\"14\" fill=\"{GOOD}\"", LIMIT / 2)), "{svg}");
        assert!(svg.contains(&format!("width=\"{}\" height=\"14\" fill=\"{BAD}\"", LIMIT * 6 / 5)), "{svg}");
        assert!(svg.contains("1.000 ms, ≤ 2") && svg.contains("5.000 msg/s, ≥ 6"), "{svg}");
        assert!(!svg.contains("without"));
    }
}
