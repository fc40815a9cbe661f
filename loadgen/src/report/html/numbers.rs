//! Numbers and times as people read them.

use crate::live::lines::{micros, thousands};

/// A count, or a dash.
pub(in crate::report) fn count(value: Option<u64>) -> String {
    value.map_or_else(|| DASH.to_owned(), thousands)
}

/// Stands for what was not measured.
pub(in crate::report) const DASH: &str = "\u{2013}";

/// A latency with its unit, or a dash.
pub(in crate::report) fn latency(us: Option<u64>) -> String {
    us.map_or_else(|| DASH.to_owned(), latency_of)
}

/// A latency with its unit, typeset.
pub(in crate::report) fn latency_of(us: u64) -> String {
    spaced(&micros(us))
}

/// `12.3ms` with a space that does not break, and a proper micro.
fn spaced(text: &str) -> String {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    format!("{number}\u{a0}{}", unit.replace('u', "\u{b5}"))
}

/// An amount with three digits at least unless it is whole: `3`, `12.3`, `1,234`.
pub(in crate::report) fn amount(value: f64) -> String {
    if !value.is_finite() {
        return DASH.to_owned();
    }
    match value.abs() {
        whole if whole.fract() == 0.0 => grouped(&format!("{value:.0}")),
        below if below < 10.0 => format!("{value:.2}"),
        below if below < 100.0 => format!("{value:.1}"),
        _ => grouped(&format!("{value:.0}")),
    }
}

fn grouped(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(digits) => format!("-{}", grouped(digits)),
        None => text.parse().map_or_else(|_| text.to_owned(), thousands),
    }
}

/// Bytes in the unit that suits them.
pub(in crate::report) fn bytes(count: u64) -> String {
    let value = count as f64;
    match count {
        0..1_024 => format!("{count}\u{a0}B"),
        1_024..1_048_576 => format!("{:.1}\u{a0}KiB", value / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1}\u{a0}MiB", value / 1_048_576.0),
        _ => format!("{:.1}\u{a0}GiB", value / 1_073_741_824.0),
    }
}

/// A tick of an axis that counts: `0`, `500`, `20k`, `1.5M`.
pub(in crate::report) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A tick of an axis of microseconds: `100us`, `10ms`, `1s`.
pub(in crate::report) fn short_micros(us: f64) -> String {
    let (scaled, unit) = match us {
        v if v >= 1e6 => (us / 1e6, "s"),
        v if v >= 1e3 => (us / 1e3, "ms"),
        _ => (us, "\u{b5}s"),
    };
    let text = format!("{scaled:.2}");
    format!("{}\u{a0}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A length of time: `42 s`, `3 min 20 s`, `2 h 5 min`.
pub(in crate::report) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round();
    let part = |size: f64, of: f64| ((whole % of) / size).floor();
    match whole {
        below if below < 10.0 => format!("{:.1}\u{a0}s", seconds.max(0.0)),
        below if below < 60.0 => format!("{below:.0}\u{a0}s"),
        below if below < 3_600.0 => {
            format!("{:.0}\u{a0}min {:.0}\u{a0}s", (below / 60.0).floor(), part(1.0, 60.0))
        }
        below => {
            format!("{:.0}\u{a0}h {:.0}\u{a0}min", (below / 3_600.0).floor(), part(60.0, 3_600.0))
        }
    }
}

/// A tick of an axis of time: `30 s`, `5 min`, `2 h`.
pub(in crate::report) fn short_time(seconds: f64) -> String {
    if seconds > 0.0 && seconds % 3_600.0 == 0.0 {
        format!("{:.0}\u{a0}h", seconds / 3_600.0)
    } else if seconds > 0.0 && seconds % 60.0 == 0.0 {
        format!("{:.0}\u{a0}min", seconds / 60.0)
    } else {
        format!("{}\u{a0}s", short(seconds))
    }
}

/// `2026-11-22 06:20 UTC`.
pub(in crate::report) fn date(unix_ms: u64) -> String {
    let (days, minutes) = (unix_ms / 86_400_000, unix_ms / 60_000 % 1_440);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}\u{a0}UTC", minutes / 60, minutes % 60)
}

/// The date of a day since 1970, in the calendar of today, counted from a first of March so that
/// the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_year_0 = days + 719_468;
    let (era, day_of_era) = (since_year_0 / 146_097, since_year_0 % 146_097);
    let leap = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00\u{a0}UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00\u{a0}UTC");
        assert_eq!(date(1_795_328_460_000), "2026-11-22 06:21\u{a0}UTC");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(amount(0.0), "0");
        assert_eq!(amount(3.0), "3");
        assert_eq!(amount(7.126), "7.13");
        assert_eq!(amount(1_234_567.8), "1,234,568");
        assert_eq!(amount(f64::NAN), DASH);
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(short(20_000.0), "20k");
        assert_eq!(short(0.5), "0.5");
        assert_eq!(short_micros(10_000.0), "10\u{a0}ms");
        assert_eq!(latency_of(850), "850\u{a0}\u{b5}s");
        assert_eq!(duration(3_725.0), "1\u{a0}h 2\u{a0}min");
        assert_eq!(duration(200.4), "3\u{a0}min 20\u{a0}s");
        assert_eq!(bytes(3_221_225_472), "3.0\u{a0}GiB");
    }
}
