// SPDX-License-Identifier: BSD-2-Clause
//! Moments as text, many in the same second.

use std::io::Write as _;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// RFC 3339 in UTC with nanoseconds: `2026-02-28T12:00:00.000000001Z`.
pub type Stamp = [u8; 30];

/// Where the nanoseconds stand.
const NANOS: std::ops::Range<usize> = 20..29;

/// Writes stamps. Of most events only the nanoseconds are new: the date is worked out
/// when the second is another.
#[derive(Clone, Debug, Default)]
pub struct Stamps {
    /// Of the last stamp, since 1970.
    second: u64,
    /// That stamp, if there was one.
    last: Option<Stamp>,
}

impl Stamps {
    /// The stamp of a moment (CLOCK_REALTIME, ns).
    pub fn of(&mut self, wall: u64) -> Stamp {
        let second = wall / 1_000_000_000;
        let mut stamp = match self.last {
            Some(last) if self.second == second => last,
            _ => whole(second),
        };
        let mut nanos = wall % 1_000_000_000;
        for digit in stamp[NANOS].iter_mut().rev() {
            *digit = b'0' + (nanos % 10) as u8;
            nanos /= 10;
        }
        self.second = second;
        self.last = Some(stamp);
        stamp
    }
}

fn whole(second: u64) -> Stamp {
    let mut stamp = [b'0'; 30];
    let time = UNIX_EPOCH + Duration::from_secs(second);
    // It has room: 64 bits of nanoseconds end in the year 2554.
    let _ = write!(
        stamp.as_mut_slice(),
        "{}",
        humantime::format_rfc3339_nanos(time)
    );
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let mut stamps = Stamps::default();
        let mut of = |wall| String::from_utf8(stamps.of(wall).to_vec()).expect("ASCII");
        let noon = 1_772_280_000_000_000_000;
        assert_eq!(of(7), "1970-01-01T00:00:00.000000007Z");
        assert_eq!(of(noon + 1), "2026-02-28T12:00:00.000000001Z");
        assert_eq!(of(noon + 987_654_321), "2026-02-28T12:00:00.987654321Z");
        assert_eq!(of(noon - 1), "2026-02-28T11:59:59.999999999Z");
        assert_eq!(of(noon), "2026-02-28T12:00:00.000000000Z");
        assert_eq!(of(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }
}
