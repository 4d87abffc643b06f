//! What was sensed over a worker's life: samples in time order, and the figures that are made of them.

use std::collections::BTreeMap;

use super::key::Channel;
use crate::results::record::{MissingRecord, SensorsRecord};

/// One sample: the time and a value per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was begun, by [`now_ns`].
    pub at_ns: u64,
    /// Values in channel order; not a number where a channel gave none, or was not due.
    pub values: Vec<f64>,
}

/// What was sampled over a worker's life.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// The channels.
    pub channels: Vec<Channel>,
    /// Samples in time order.
    pub samples: Vec<Sample>,
    /// What cannot be read here, and what stopped giving readings.
    pub missing: Vec<MissingRecord>,
}

/// A span of time, by [`now_ns`].
pub type Span = (u64, u64);

impl Telemetry {
    /// Readings of a channel: time and value.
    pub fn series(&self, channel: &Channel) -> Vec<(u64, f64)> {
        let Some(i) = self.channels.iter().position(|c| c == channel) else { return Vec::new() };
        self.samples.iter().filter_map(|s| Some((s.at_ns, *s.values.get(i)?))).filter(|p| !p.1.is_nan()).collect()
    }

    /// Largest reading of a channel.
    pub fn largest(&self, channel: &Channel) -> Option<f64> {
        self.series(channel).into_iter().map(|p| p.1).max_by(f64::total_cmp)
    }

    /// Smallest reading of a channel.
    pub fn smallest(&self, channel: &Channel) -> Option<f64> {
        self.series(channel).into_iter().map(|p| p.1).min_by(f64::total_cmp)
    }

    /// Rise of a counter from the first to the last reading.
    pub fn rise(&self, channel: &Channel) -> Option<f64> {
        let series = self.series(channel);
        Some(series.last()?.1 - series.first()?.1)
    }

    /// Joules per rail over the given spans: trapezoids between samples, interpolated at both ends of each span. A rail
    /// that does not cover all spans has no figure.
    pub fn energy(&self, spans: &[Span]) -> BTreeMap<String, f64> {
        let mut joules = BTreeMap::new();
        for (channel, rail) in self.channels.iter().filter_map(|c| Some((c, c.rail()?))) {
            let points = self.series(channel);
            let gap = self.longest_gap(&points);
            let total: Option<f64> = spans.iter().map(|&(from, to)| integrate(&points, from, to, gap)).sum();
            if let Some(total) = total.filter(|_| !spans.is_empty()) {
                joules.insert(rail, total);
            }
        }
        joules
    }

    /// Mean power per rail over a span, watts.
    pub fn mean_power(&self, span: Span) -> BTreeMap<String, f64> {
        let seconds = span.1.saturating_sub(span.0) as f64 / 1e9;
        let energy = if seconds > 0.0 { self.energy(&[span]) } else { BTreeMap::new() };
        energy.into_iter().map(|(rail, joules)| (rail, joules / seconds)).collect()
    }

    /// Longest time between two readings over which a curve is still drawn: four usual steps, at least one second.
    fn longest_gap(&self, points: &[(u64, f64)]) -> u64 {
        let mut steps: Vec<u64> = points.windows(2).map(|w| w[1].0 - w[0].0).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).map_or(0, |step| 4 * step).max(1_000_000_000)
    }

    /// Which sensors were read, and which were not and why.
    pub fn sensors(&self) -> SensorsRecord {
        SensorsRecord { read: self.channels.clone(), missing: self.missing.clone(), unjudged: Vec::new() }
    }
}

/// How the quantity of a row of `telemetry.csv` begins that marks the begin of a phase.
pub const PHASE: &str = "phase_";

/// Integral of the piecewise linear curve through `points` from `from` to `to`, in value seconds; `None` where the curve
/// does not reach, or has a hole longer than `gap`.
fn integrate(points: &[(u64, f64)], from: u64, to: u64, gap: u64) -> Option<f64> {
    let value = |at: u64| {
        let after = points.partition_point(|p| p.0 < at);
        let b = points.get(after)?;
        if b.0 == at {
            return Some(b.1);
        }
        let a = points.get(after.checked_sub(1)?)?;
        let share = (at - a.0) as f64 / (b.0 - a.0) as f64;
        Some(a.1 + (b.1 - a.1) * share)
    };
    let first = points.partition_point(|p| p.0 <= from).saturating_sub(1);
    let last = points.partition_point(|p| p.0 < to);
    if points.get(first..=last)?.windows(2).any(|w| w[1].0 - w[0].0 > gap) {
        return None;
    }
    let mut curve = vec![(from, value(from)?)];
    curve.extend(points.iter().filter(|p| p.0 > from && p.0 < to));
    curve.push((to, value(to)?));
    Some(curve.windows(2).map(|w| (w[1].0 - w[0].0) as f64 / 1e9 * (w[0].1 + w[1].1) / 2.0).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One channel with these readings, a second apart.
    fn recorded(rail: &str, values: &[f64]) -> Telemetry {
        let at = |i: usize| i as u64 * 1_000_000_000;
        Telemetry {
            channels: vec![Channel::Rail(rail.into())],
            samples: values.iter().enumerate().map(|(i, v)| Sample { at_ns: at(i), values: vec![*v] }).collect(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn energy_is_the_integral_of_power() {
        let telemetry = recorded("VDD_IN", &[2.0, 3.0, 4.0, f64::NAN, 6.0]);
        // 2 W + t: from 0.5 s to 1.5 s that is 3 J.
        let joules = telemetry.energy(&[(500_000_000, 1_500_000_000)]);
        assert!((joules["VDD_IN"] - 3.0).abs() < 1e-9, "{joules:?}");
        // A reading that is missing is bridged, as long as the hole is short.
        let joules = telemetry.energy(&[(2_000_000_000, 4_000_000_000)]);
        assert!((joules["VDD_IN"] - 10.0).abs() < 1e-9, "{joules:?}");
        assert!(telemetry.energy(&[(500_000_000, 4_500_000_000)]).is_empty(), "a span beyond the samples");
        assert!(telemetry.energy(&[]).is_empty());
        let mean = telemetry.mean_power((0, 2_000_000_000));
        assert!((mean["VDD_IN"] - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_long_hole_has_no_energy() {
        let mut values = vec![1.0; 4];
        values.extend([f64::NAN; 6]);
        values.extend([1.0; 4]);
        let telemetry = recorded("VDD_IN", &values);
        assert!(telemetry.energy(&[(1_000_000_000, 12_000_000_000)]).is_empty());
        assert!(!telemetry.energy(&[(0, 3_000_000_000)]).is_empty(), "before the hole all is well");
    }
}
