//! What users rely on when they compare.

use super::super::{Report, sample};
use super::{CompareError, Side, Verdict, by_chance, differences, page, rows, table};

fn side(name: &str, runs: Vec<Report>) -> Side {
    Side { name: name.to_owned(), runs }
}

/// Runs whose CPU per message is given.
fn with_cpu(name: &str, values: &[f64]) -> Side {
    let run = |value: &f64| {
        let mut report = sample::report(5, 1);
        report.server.cpu_us_per_message = Some(*value);
        report
    };
    side(name, values.iter().map(run).collect())
}

fn verdict_on_cpu(a: &[f64], b: &[f64]) -> (Option<f64>, Verdict) {
    let rows = rows(&with_cpu("a", a), &with_cpu("b", b));
    let row = rows.iter().find(|row| row.name == "server CPU per message").unwrap();
    (row.ratio, row.verdict)
}

#[test]
fn only_what_does_not_overlap_exceeds_noise() {
    let a = [10.0, 12.0, 11.0];
    assert_eq!(verdict_on_cpu(&a, &[20.0, 22.0, 21.0]), (Some(21.0 / 11.0), Verdict::Worse));
    assert_eq!(verdict_on_cpu(&a, &[5.0, 6.0, 9.9]).1, Verdict::Better);
    assert_eq!(verdict_on_cpu(&a, &[12.0, 22.0, 21.0]).1, Verdict::Noise);
    assert_eq!(verdict_on_cpu(&a, &[20.0, 22.0]).1, Verdict::Unknown, "two runs are too few");
    assert_eq!(verdict_on_cpu(&[3.0], &[3.0]), (Some(1.0), Verdict::Same));
}

#[test]
fn more_is_better_for_rates() {
    let of = |rate: f64| {
        let mut report = sample::report(5, 1);
        report.sessions.per_second = rate;
        report
    };
    let a = side("a", vec![of(1.0), of(1.1), of(1.2)]);
    let b = side("b", vec![of(2.0), of(2.1), of(2.2)]);
    let find = |a, b| {
        let rows = rows(a, b);
        rows.into_iter().find(|row| row.name == "logins per second").unwrap().verdict
    };
    assert_eq!((find(&a, &b), find(&b, &a)), (Verdict::Better, Verdict::Worse));
}

#[test]
fn luck_is_counted() {
    assert_eq!(by_chance(1, 1), 1.0);
    assert!((by_chance(3, 3) - 0.1).abs() < 1e-9);
    assert!((by_chance(5, 5) - 2.0 / 252.0).abs() < 1e-9);
}

#[test]
fn the_table_has_both_sides_and_their_ratio() {
    let (a, b) =
        (side("a.json", vec![sample::report(30, 1)]), side("b.json", vec![sample::report(30, 2)]));
    let lines = table(&a, &b);
    let line = lines.iter().find(|line| line.starts_with("delivered p50")).unwrap();
    let ratio: f64 = line.split_whitespace().last().unwrap().parse().unwrap();
    assert!((1.9..2.1).contains(&ratio), "{line}");
    assert!(lines.iter().any(|line| line.starts_with("One run tells nothing about noise")));
}

#[test]
fn what_is_not_the_same_is_told_first() {
    let (one, mut other) = (sample::report(5, 1), sample::report(5, 1));
    other.scenario.parameters.insert("rate".to_owned(), "20000".to_owned());
    other.machine.kernel = "Linux 1.0".to_owned();
    other.valid = false;
    other.invalid_because = vec!["it fell behind".to_owned()];
    let lines = differences(&side("a", vec![one.clone()]), &side("b", vec![other]));
    assert_eq!(lines[0], "b: 1 of 1 runs are INVALID: it fell behind");
    assert!(lines.contains(&"rate: 10000 / 20000".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("/ Linux 1.0")));
    let (a, b) = (side("a", vec![one.clone()]), side("b", vec![one]));
    assert_eq!(differences(&a, &b), Vec::<String>::new());
}

#[test]
fn the_picture_has_a_curve_of_every_side_and_nothing_foreign() {
    let three = |slower| (0..3).map(|_| sample::report(20, slower)).collect();
    let page = page(&side("<script>a", three(1)), &side("b", three(2)));
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;a"));
    for title in ["Connect", "Sent", "Delivered", "Read"] {
        assert!(page.contains(&format!("<h3>{title}</h3>")), "{title}");
    }
    for class in ["line c1\"", "line c3\"", "line c1 thin\"", "line c3 thin\""] {
        assert!(page.contains(class), "{class}");
    }
}

#[test]
fn a_side_is_a_file_or_several_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    for name in ["1.json", "2.json", "3.json"] {
        sample::report(3, 1).write(&folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "no report").unwrap();
    assert_eq!(Side::read(&file("1.json")).unwrap().runs.len(), 1);
    assert_eq!(
        Side::read(&format!("{},{}", file("1.json"), file("3.json"))).unwrap().runs.len(),
        2
    );
    assert_eq!(Side::read(&folder.path().display().to_string()).unwrap().runs.len(), 3);
    for wrong in ["", ",", &file("no.json")] {
        assert!(Side::read(wrong).is_err(), "{wrong}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = Side::read(&empty.path().display().to_string()).unwrap_err();
    assert!(matches!(error, CompareError::Empty(_)), "{error}");
}
