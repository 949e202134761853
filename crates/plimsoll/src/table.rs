//! Rows in columns, and numbers as people read them.

use std::fmt::Write;

/// How a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table that is written when its rows are known.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heads: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heads: [(&'static str, Align); N]) -> Self {
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Its lines, the heads first.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let heads = self.heads.map(|(head, _)| head.to_owned());
        let all = || std::iter::once(&heads).chain(&self.rows);
        let mut widths = [0; N];
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in all() {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(widths).zip(self.heads) {
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

/// How often a second.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{rate:.2}"),
        ..10.0 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

/// How long something takes, in seconds.
pub(crate) fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds @ ..0.001) => format!("{:.0}us", seconds * 1e6),
        Some(seconds @ ..0.01) => format!("{:.1}ms", seconds * 1e3),
        Some(seconds @ ..1.0) => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1}s"),
    }
}

/// How long something has been, in whole seconds: the two largest units.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// A number of bytes.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (count.max(1).ilog2() / 10).min(4);
    let tenths = (u128::from(count) * 10) >> (10 * unit);
    let name = units.get(unit as usize).copied().unwrap_or_default();
    match tenths {
        _ if unit == 0 => format!("{count}{name}"),
        1_000.. => format!("{}{name}", tenths / 10),
        _ => format!("{}.{}{name}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("SERVER", Align::Left), ("NOW", Align::Right)]);
        table.row(["a:80".into(), "3".into()]);
        table.row(["longer:80".into(), "1024".into()]);
        assert_eq!(
            table.text(),
            "SERVER      NOW\na:80          3\nlonger:80  1024\n"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 4.04, 431.7].map(rate),
            ["0", "0.25", "4.0", "432"]
        );
        let times = [None, Some(0.000_052), Some(0.0015), Some(0.042), Some(2.5)];
        assert_eq!(times.map(time), ["-", "52us", "1.5ms", "42ms", "2.5s"]);
        assert_eq!(
            [59, 61, 7_260, 90_000].map(span),
            ["59s", "1m1s", "2h1m", "1d1h"]
        );
        let sizes = [0, 1_023, 1_024, 1_740, 16 << 20, 300 << 30];
        assert_eq!(
            sizes.map(bytes),
            ["0B", "1023B", "1.0KiB", "1.6KiB", "16.0MiB", "300GiB"]
        );
    }
}
