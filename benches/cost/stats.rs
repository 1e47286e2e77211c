// SPDX-License-Identifier: BSD-2-Clause
//! Quantiles, how sure they are, and what tracers say of their losses.

/// The value below which a share of all lies, between neighbours in proportion.
/// `None` of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "few values")]
    let at = share.clamp(0.0, 1.0) * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * at.fract())
}

/// A figure, and between what it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Of fewer rounds, drawn anew, the interval would be too narrow.
const ENOUGH: usize = 13;

/// How often rounds are drawn anew, and the share of what comes of it that is left out at
/// either end.
const DRAWS: usize = 2000;
const TAIL: f64 = 0.025;

impl Estimate {
    /// What does not vary.
    pub(crate) fn exact(value: f64) -> Self {
        Self {
            value,
            low: value,
            high: value,
        }
    }

    /// Of so many rounds and, by the bootstrap, its interval: what comes of as many drawn
    /// from these, again and again. `of` is given their numbers.
    pub(crate) fn of(rounds: usize, of: impl Fn(&[usize]) -> Option<f64>) -> Option<Self> {
        // A round may have none of what it takes.
        let useful: Vec<usize> = (0..rounds)
            .filter(|round| of(&[*round]).is_some())
            .collect();
        let all: Vec<usize> = (0..rounds).collect();
        let value = of(&all)?;
        if useful.len() < ENOUGH {
            return Some(Self {
                value,
                low: f64::NEG_INFINITY,
                high: f64::INFINITY,
            });
        }
        // The same intervals from the same figures.
        let mut random = fastrand::Rng::with_seed(0);
        let mut draw = || -> Vec<usize> { all.iter().map(|_| random.usize(..rounds)).collect() };
        let draws: Vec<f64> = (0..DRAWS).filter_map(|_| of(&draw())).collect();
        Some(Self {
            value,
            low: quantile(&draws, TAIL)?,
            high: quantile(&draws, 1.0 - TAIL)?,
        })
    }

    /// Is it at most so much? `None` if the run was not steady enough to say: no tracer
    /// makes anything faster, so by as much as a figure seems to, it is noise.
    pub(crate) fn at_most(self, limit: f64) -> Option<bool> {
        if self.low < -limit {
            None
        } else if self.high <= limit {
            Some(true)
        } else if self.low > limit {
            Some(false)
        } else {
            None
        }
    }
}

/// How many events or calls hello's closing line tells of, and how many were lost:
/// `hello: 23 events, 2 lost (2 buffer full)`.
pub(crate) fn ledger(said: &str) -> Option<(u64, u64)> {
    let line = said.lines().rev().find(|line| line.contains(" lost"))?;
    let (before, _) = line.strip_prefix("hello: ")?.split_once(" lost")?;
    let shown = before.split(' ').next()?;
    let lost = before.rsplit(' ').next()?;
    Some((shown.parse().ok()?, lost.parse().ok()?))
}

/// A figure for people: three digits or so.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => thousands(value),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
