//! Latency as whole histograms, in the interchange form of HdrHistogram (V2, deflated, base64), so
//! that reports merge without loss and other tools can read them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::Quantiles;

/// Slowest that is told from slower ones: an hour.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Of every value three digits are kept.
const DIGITS: u8 = 3;

/// A histogram as every part of a run keeps it, so that all can be added up. Record with
/// `saturating_record`.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants that are in order: {error}"),
    }
}

/// The four ways a chat is waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From the intended start of the connection until it is logged in.
    pub connect: Latency,
    /// From the intended send until the server has taken it for good.
    pub sent: Latency,
    /// From the intended send until it arrived.
    pub delivered: Latency,
    /// From the intended send until the sender knows that it was read.
    pub read: Latency,
}

impl Latencies {
    /// All four with their names, in the order they happen.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Latency); 4] {
        [
            ("connect", &self.connect),
            ("sent", &self.sent),
            ("delivered", &self.delivered),
            ("read", &self.read),
        ]
    }
}

/// One histogram in brief and whole. Everything is `null` if nothing was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were recorded.
    pub count: u64,
    /// Their mean.
    pub mean: Option<f64>,
    /// Half are faster.
    pub p50: Option<u64>,
    /// 9 of 10 are faster.
    pub p90: Option<u64>,
    /// 99 of 100 are faster.
    pub p99: Option<u64>,
    /// 999 of 1,000 are faster.
    pub p999: Option<u64>,
    /// The slowest.
    pub max: Option<u64>,
    /// All of it: HdrHistogram V2, deflated, base64.
    pub hdr: Option<String>,
}

impl Latency {
    /// Sums a histogram up.
    #[must_use]
    pub fn new(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| Some(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            // To a tenth: more digits would be noise, and JSON does not keep all of them.
            mean: Some((histogram.mean() * 10.0).round() / 10.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Some(histogram.max()),
            hdr: encode(histogram),
        }
    }

    /// The whole histogram; an empty one if nothing was recorded.
    ///
    /// # Errors
    /// What is in the file is no histogram.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let Some(text) = &self.hdr else { return Ok(histogram()) };
        let wrong = |why: String| format!("a histogram can't be decoded: {why}");
        let bytes = BASE64_STANDARD.decode(text).map_err(|error| wrong(error.to_string()))?;
        Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| wrong(format!("{error:?}")))
    }

    /// One of several runs or hosts.
    ///
    /// # Errors
    /// One of them can't be decoded.
    pub fn merged<'l>(all: impl IntoIterator<Item = &'l Self>) -> Result<Self, String> {
        let mut sum = histogram();
        for latency in all {
            let other = latency.histogram()?;
            sum.add(&other).map_err(|error| format!("histograms can't be added: {error:?}"))?;
        }
        Ok(Self::new(&sum))
    }
}

/// A second's histogram in brief.
#[must_use]
pub fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    (!histogram.is_empty()).then(|| Quantiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    })
}

fn encode(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    // Writing to memory fails only for histograms of more than 4 GiB.
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).ok()?;
    Some(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_the_file() {
        let mut histogram = histogram();
        for value in [1, 17, 900, 12_345, 9_999_999] {
            histogram.saturating_record(value);
        }
        let latency = Latency::new(&histogram);
        let json = serde_json::to_string(&latency).unwrap();
        let back: Latency = serde_json::from_str(&json).unwrap();
        assert_eq!(back, latency);
        assert_eq!(back.histogram().unwrap(), histogram);
        assert_eq!(back.count, 5);
        // Three digits are kept.
        let max = back.max.unwrap();
        assert!((9_999_999..=10_010_000).contains(&max), "{max}");
    }

    #[test]
    fn nothing_recorded_is_null_and_no_zero() {
        let latency = Latency::new(&histogram());
        assert_eq!(latency.p99, None);
        assert!(latency.histogram().unwrap().is_empty());
    }

    #[test]
    fn reports_merge_without_loss() {
        let (mut one, mut two, mut both) = (histogram(), histogram(), histogram());
        for value in 1..1_000 {
            one.saturating_record(value);
            two.saturating_record(value * 1_000);
            both.saturating_record(value);
            both.saturating_record(value * 1_000);
        }
        let merged = Latency::merged([&Latency::new(&one), &Latency::new(&two)]).unwrap();
        assert_eq!(merged, Latency::new(&both));
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for hdr in ["", "?", "AAAA", "HISTFAAAAAA=", "HISTEwAAAAMAAAAA"] {
            let latency = Latency { hdr: Some(hdr.to_owned()), ..Latency::default() };
            assert!(latency.histogram().is_err(), "{hdr}");
        }
    }
}
