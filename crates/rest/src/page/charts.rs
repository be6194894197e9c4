//! Line charts as SVG, which need no script.

use maud::{Markup, html};

/// The width of the drawing, in units of its view box.
const WIDTH: f64 = 320.0;
/// The height of the drawing, in units of its view box.
const HEIGHT: f64 = 72.0;

/// Renders a line through points of time and value. The scale goes from zero to the largest value.
///
/// Points are in the order of time; `show` formats a value. A screen reader reads the first, the last and the extreme values.
pub(super) fn line(title: &str, points: &[(i64, f64)], show: impl Fn(f64) -> String) -> Markup {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return html! {} };
    let most = points.iter().map(|(_, v)| *v).fold(0.0, f64::max);
    let least = points.iter().map(|(_, v)| *v).fold(f64::MAX, f64::min);
    let span = (last.0 - first.0).max(1) as f64;
    let at = |(time, value): &(i64, f64)| {
        let x = (time - first.0) as f64 / span * WIDTH;
        let y = HEIGHT - if most > 0.0 { value / most * (HEIGHT - 4.0) } else { 0.0 } - 2.0;
        format!("{x:.1},{y:.1}")
    };
    // A value holds until the next one.
    let mut path: Vec<String> = Vec::with_capacity(points.len() * 2);
    for (i, point) in points.iter().enumerate() {
        if i > 0 {
            path.push(at(&(point.0, points[i - 1].1)));
        }
        path.push(at(point));
    }
    if points.len() == 1 {
        path.push(format!("{WIDTH:.1},{}", at(last).split_once(',').map_or("", |(_, y)| y)));
    }
    let description =
        format!("{title}: {} at first, {} now, between {} and {}", show(first.1), show(last.1), show(least), show(most));
    html! {
        figure.chart {
            figcaption { (title) " " b { (show(last.1)) } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(description) {
                polyline points=(path.join(" ")) {}
            }
            span.soft { (show(least)) " to " (show(most)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_each_value_until_the_next() {
        let chart = line("files", &[(0, 10.0), (100, 5.0)], |v| format!("{v}")).into_string();
        assert!(chart.contains("points=\"0.0,2.0 320.0,2.0 320.0,36.0\""), "{chart}");
        assert!(chart.contains("files: 10 at first, 5 now, between 5 and 10"));
        assert_eq!(line("files", &[], |v| format!("{v}")).into_string(), "");
    }
}
