//! The samples as a picture: one panel a figure, over the time of the run.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::sample::{SERIES, Sample, Series};

/// Width and height of one panel.
const PANEL: (u32, u32) = (900, 150);

/// Draws all of it. The part in which the gateway was killed is grey.
pub fn draw(samples: &[Sample], path: &Path) -> Result<(), Box<dyn Error>> {
    let panels = SERIES.len();
    let height = PANEL.1 * u32::try_from(panels)?;
    let root = SVGBackend::new(path, (PANEL.0, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, series) in root.split_evenly((panels, 1)).iter().zip(&SERIES) {
        let points: Vec<(f64, f64)> =
            samples.iter().map(|sample| (minutes(sample), (series.of)(sample))).collect();
        let killed_until = samples.windows(2).rev().find_map(|pair| match pair {
            [before, after] if after.kills > before.kills => Some(minutes(after)),
            _ => None,
        });
        one(panel, series, &points, killed_until.unwrap_or_default())?;
    }
    root.present()?;
    Ok(())
}

fn one<B: DrawingBackend>(
    panel: &DrawingArea<B, plotters::coord::Shift>,
    series: &Series,
    points: &[(f64, f64)],
    killed_until: f64,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let end = points.last().map_or(1.0, |(at, _)| *at);
    let top = points.iter().map(|(_, value)| *value).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(panel)
        .caption(series.title, ("sans-serif", 15))
        .margin(6)
        .margin_right(20)
        .x_label_area_size(22)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let grey = RGBColor(236, 236, 236).filled();
    chart.draw_series([Rectangle::new([(0.0, 0.0), (killed_until, top)], grey)])?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(4)
        .x_label_formatter(&|minute| format!("{minute:.0} min"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), &BLUE))?;
    Ok(())
}

fn minutes(sample: &Sample) -> f64 {
    sample.at.as_secs_f64() / 60.0
}
