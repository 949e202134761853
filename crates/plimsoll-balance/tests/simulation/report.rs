//! The results as a Markdown table and as a drawing.

use crate::world::Seen;
use std::fmt::Write;
use std::time::Duration;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) seen: Seen,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| algorithm | p50, ms | p99, ms | p99.9, ms | errors, % | slow server's share / even share |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    for Row { name, seen } in rows {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| ms(seen.quantile(share)));
        let (errors, slow) = (seen.errors() * 100.0, seen.slow_share() / seen.even);
        writeln!(
            text,
            "| {name} | {p50:.1} | {p99:.0} | {p999:.0} | {errors:.3} | {slow:.2} |"
        )
        .unwrap();
    }
    text
}

/// Returns `page` with `table` between the two comments of this name.
pub(crate) fn replace_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- simulated: {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}\n{table}\n{end}{after}")
}

const LEFT: f64 = 150.0;
const DECADE: f64 = 190.0;
const LINE: f64 = 34.0;
const TOP: f64 = 40.0;

/// The place of a time on the axis, which is logarithmic from 1 ms to 1 s.
fn x(time: Duration) -> f64 {
    LEFT + DECADE * ms(time).max(1.0).log10()
}

/// Draws for each algorithm a bar from the median to p99, and a whisker to p99.9.
pub(crate) fn plot(rows: &[Row]) -> String {
    let bottom = TOP + LINE * rows.len() as f64;
    let (width, height) = (LEFT + 3.0 * DECADE + 40.0, bottom + 50.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <title>Times of answers by algorithm</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\">median (line), to p99 (bar), to p99.9 (whisker)</text>\n"
    );
    for time in [1, 3, 10, 30, 100, 300, 1_000] {
        let at = x(Duration::from_millis(time));
        let label = bottom + 20.0;
        writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{label}\" text-anchor=\"middle\">{time} ms</text>"
        )
        .unwrap();
    }
    for (n, Row { name, seen }) in rows.iter().enumerate() {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| x(seen.quantile(share)));
        let (middle, length) = (TOP + LINE * (n as f64 + 0.5), p99 - p50);
        let (label, text, top) = (LEFT - 10.0, middle + 4.0, middle - 9.0);
        writeln!(
            svg,
            "<text x=\"{label}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
             <path d=\"M{p99:.1} {middle}H{p999:.1}\" stroke=\"#888\" stroke-width=\"2\"/>\
             <rect x=\"{p50:.1}\" y=\"{top}\" width=\"{length:.1}\" height=\"18\" fill=\"#4a7fb5\"/>\
             <path d=\"M{p50:.1} {top}v18\" stroke=\"#222\" stroke-width=\"3\"/>"
        )
        .unwrap();
    }
    svg + "</svg>\n"
}
