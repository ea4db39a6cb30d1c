//! Plots as SVG.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::results::{Measured, Series, Subject};

const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 90, 166),
    RGBColor(214, 96, 22),
    RGBColor(46, 125, 50),
    RGBColor(123, 80, 160),
    RGBColor(170, 40, 60),
    RGBColor(110, 110, 110),
];
const GREY: RGBColor = RGBColor(90, 90, 90);
const FAINT: RGBColor = RGBColor(225, 225, 225);
const WIDTH: u32 = 820;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line, with its points in the plot's units.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    colour: RGBColor,
    is_faint: bool,
}

/// A scale, and where it is labelled.
#[derive(Clone)]
struct Axis {
    name: String,
    ticks: Vec<(f64, String)>,
    is_log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// From the first tick to the last.
    fn over(name: &str, ticks: Vec<(f64, String)>, is_log: bool) -> Axis {
        let (from, to) = (ticks[0].0, ticks[ticks.len() - 1].0);
        Axis { name: name.to_owned(), ticks, is_log, from, to }
    }

    /// Powers of ten around these values, 1, 2 and 5 of each if they are few.
    fn log(name: &str, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        let high = values.fold(f64::NEG_INFINITY, f64::max).log10().ceil().max(f64::from(low + 1)) as i32;
        let steps: &[f64] = if high - low <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks: Vec<f64> =
            (low..high).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power))).collect();
        ticks.push(10_f64.powi(high));
        Axis::over(name, labelled(&ticks), true)
    }

    /// From 0, in round steps.
    fn linear(name: &str, values: impl Iterator<Item = f64>) -> Axis {
        let high = values.fold(0.0, f64::max).max(1e-9);
        let power = 10_f64.powf((high / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| high / step <= 6.0).unwrap();
        let ticks: Vec<f64> = (0..=(high / step).ceil() as i32).map(|n| f64::from(n) * step).collect();
        Axis::over(name, labelled(&ticks), false)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, pixels: (i32, i32)) -> i32 {
        let scaled = |value: f64| if self.is_log { value.log10() } else { value };
        let share = (scaled(*value) - scaled(self.from)) / (scaled(self.to) - scaled(self.from));
        pixels.0 + (share * f64::from(pixels.1 - pixels.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == value).map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

fn labelled(ticks: &[f64]) -> Vec<(f64, String)> {
    ticks.iter().map(|tick| (*tick, number(*tick))).collect()
}

/// As short as it is exact enough, thousands set apart.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    if decimals > 0 || text.len() < 5 {
        return text;
    }
    let mut grouped = String::new();
    for (n, digit) in text.chars().enumerate() {
        if n > 0 && (text.len() - n) % 3 == 0 && digit != '-' {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Cost of an event on top, what its sender sees below.
pub fn cost(path: &Path, title: &str, x_name: &str, series: &[Series], verify_us: f64) {
    let root = SVGBackend::new(path, (WIDTH, 720)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let (upper, lower) = root.split_vertically(360);
    // Nothing waiting has a place on a scale of powers of ten, too: one step before the first.
    let first = series.iter().flat_map(|line| &line.points).map(|point| point.x).find(|x| *x > 0.0).unwrap_or(1.0);
    let shown = |x: f64| if x > 0.0 { x } else { first / 10.0 };
    let xs = series.iter().flat_map(|line| line.points.iter().map(|point| shown(point.x)));
    let mut x = Axis::log(x_name, xs.clone());
    if series.iter().flat_map(|line| &line.points).any(|point| point.x == 0.0) {
        x.ticks[0].1 = "0".to_owned();
    }
    // Ends where the values end, if that is not at a power of ten.
    let last = xs.fold(0.0, f64::max);
    if x.ticks.iter().all(|(tick, _)| (tick - last).abs() > 1e-6) {
        x.ticks.retain(|(tick, _)| *tick < last);
        x.ticks.push((last, number(last)));
        x.to = last;
    }

    let line =
        |(n, series): (usize, &Series), name: String, is_faint: bool, value: &dyn Fn(&Measured) -> Option<f64>| {
            let points = series.points.iter().filter_map(|point| Some((shown(point.x), value(&point.measured)?)));
            Line { name, points: points.collect(), colour: COLOURS[n % COLOURS.len()], is_faint }
        };
    let mut costs: Vec<Line> = series
        .iter()
        .enumerate()
        .map(|s| line(s, s.1.name.clone(), false, &|measured| Some(measured.cpu_us)))
        .collect();
    let (low, high) = (x.from, x.to);
    costs.push(Line {
        name: "verify_strict alone".to_owned(),
        points: vec![(low, verify_us), (high, verify_us)],
        colour: GREY,
        is_faint: true,
    });
    let y = Axis::linear("µs of CPU per event", costs.iter().flat_map(|line| line.points.iter().map(|point| point.1)));
    panel(&upper, title, &x, &y, &costs);

    // Beyond what a server can do, latency tells how long the load went on.
    let kept_up = |measured: &Measured, value: f64| measured.kept_up().then_some(value);
    let latencies: Vec<Line> = series
        .iter()
        .enumerate()
        .flat_map(|s| {
            let p50 = line(s, format!("{}, p50", s.1.name), false, &|m| kept_up(m, m.latency.p50));
            let p99 = line(s, format!("{}, p99", s.1.name), true, &|m| kept_up(m, m.latency.p99));
            [p50, p99]
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    if latencies.is_empty() {
        root.present().unwrap();
        return;
    }
    let y = Axis::log("ms to the answer", latencies.iter().flat_map(|line| line.points.iter().map(|point| point.1)));
    panel(&lower, "", &x, &y, &latencies);
    root.present().unwrap();
}

/// How long the answer took, for ever rarer events.
pub fn latency(path: &Path, title: &str, subjects: &[Subject]) {
    let root = SVGBackend::new(path, (WIDTH, 440)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let lines: Vec<Line> = subjects
        .iter()
        .enumerate()
        .map(|(n, subject)| Line {
            name: subject.name.clone(),
            points: subject.open.latency.curve.clone(),
            colour: COLOURS[n % COLOURS.len()],
            is_faint: false,
        })
        .collect();
    let labels = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let longest = lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).fold(10.0, f64::max);
    let ticks = labels.iter().enumerate().map(|(n, label)| (10_f64.powi(n as i32), (*label).to_owned()));
    let count = longest.log10().ceil() as usize + 1;
    let x = Axis::over("share of the events", ticks.take(count).collect(), true);
    let y =
        Axis::log("ms to the answer, at most", lines.iter().flat_map(|line| line.points.iter().map(|point| point.1)));
    panel(&root, title, &x, &y, &lines);
    root.present().unwrap();
}

fn panel(area: &Canvas<'_>, title: &str, x: &Axis, y: &Axis, lines: &[Line]) {
    let mut builder = ChartBuilder::on(area);
    builder.margin(14).margin_right(24).x_label_area_size(44).y_label_area_size(66);
    if !title.is_empty() {
        builder.caption(title, ("sans-serif", 18));
    }
    // The names of the lines stand above them.
    let to = if y.is_log { y.to * (y.to / y.from).powf(0.3) } else { y.to * 1.25 };
    let mut chart = builder.build_cartesian_2d(x.clone(), Axis { to, ..y.clone() }).unwrap();
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .x_desc(&x.name)
        .y_desc(&y.name)
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()
        .unwrap();
    for line in lines {
        let style = line.colour.mix(if line.is_faint { 0.45 } else { 1.0 }).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))
            .unwrap()
            .label(&line.name)
            .legend(move |(a, b)| PathElement::new([(a, b), (a + 18, b)], style));
        if line.points.len() > 2 && line.points.len() < 15 {
            chart.draw_series(line.points.iter().map(|point| Circle::new(*point, 3, style.filled()))).unwrap();
        }
    }
    chart
        .configure_series_labels()
        .position(if y.is_log { SeriesLabelPosition::UpperLeft } else { SeriesLabelPosition::UpperRight })
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font(("sans-serif", 13))
        .draw()
        .unwrap();
}

/// CPU time of an event by who spends it: a bar each, in pieces.
pub fn bars(path: &Path, title: &str, bars: &[(String, Vec<(String, f64)>)]) {
    let root = SVGBackend::new(path, (WIDTH, 90 + 52 * bars.len() as u32)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let sums = bars.iter().map(|(_, pieces)| pieces.iter().map(|(_, us)| us).sum::<f64>());
    let x = Axis::linear("µs of CPU per event", sums);
    // What the colours mean stands on the right.
    let x = Axis { to: x.to * 1.4, ..x };
    let names = bars.iter().enumerate().map(|(n, bar)| (n as f64 + 0.5, bar.0.clone())).collect();
    let y = Axis { name: String::new(), ticks: names, is_log: false, from: bars.len() as f64, to: 0.0 };
    let mut builder = ChartBuilder::on(&root);
    builder.margin(14).margin_right(30).x_label_area_size(44).y_label_area_size(130).caption(title, ("sans-serif", 18));
    let mut chart = builder.build_cartesian_2d(x.clone(), y).unwrap();
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .disable_y_mesh()
        .y_labels(bars.len())
        .x_desc(&x.name)
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()
        .unwrap();
    let mut pieces_seen: Vec<&String> = Vec::new();
    for (n, (_, pieces)) in bars.iter().enumerate() {
        let (top, mut left) = (n as f64 + 0.2, 0.0);
        for (piece, us) in pieces {
            let known = pieces_seen.iter().position(|name| *name == piece);
            let place = known.unwrap_or(pieces_seen.len());
            let style = COLOURS[place % COLOURS.len()].mix(0.85).filled();
            let series = chart.draw_series([Rectangle::new([(left, top), (left + us, top + 0.6)], style)]).unwrap();
            if known.is_none() {
                pieces_seen.push(piece);
                series.label(piece).legend(move |(a, b)| Rectangle::new([(a, b - 5), (a + 12, b + 5)], style));
            }
            left += us;
        }
        let text = Text::new(number(left), (left + x.to * 0.008, top + 0.2), ("sans-serif", 13).into_font());
        chart.draw_series([text]).unwrap();
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font(("sans-serif", 13))
        .draw()
        .unwrap();
}
