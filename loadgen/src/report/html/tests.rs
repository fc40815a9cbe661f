//! What users rely on in a drawn report.

use super::super::{Failure, Report, sample};
use super::page;

/// The text of a page: what stands between the tags.
fn text_of(page: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in page.chars() {
        match letter {
            '<' => inside = true,
            '>' => (inside, text) = (false, text + " "),
            _ if !inside => text.push(letter),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_must_not_be_overlooked_comes_first() {
    let mut report = sample::report(60, 1);
    report.valid = false;
    report.invalid_because = vec!["the generator fell behind by 2 s".to_owned()];
    let text = text_of(&page(&report));
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("no `{words}` in {text}"));
    assert!(at("1 lost acked, never arrived") < at("Invalid"));
    assert!(at("Invalid") < at("the generator fell behind by 2 s"));
    assert!(at("the generator fell behind by 2 s") < at("1 of 2 goals missed"));
    assert!(at("1 of 2 goals missed") < at("Latency by share"));
}

#[test]
fn numbers_agree_with_the_json() {
    let report = sample::report(60, 1);
    let text = text_of(&page(&report));
    let has = |words: String| assert!(text.contains(&words), "no `{words}` in {text}");
    let thousands = crate::live::lines::thousands;
    has(format!("{} sent", thousands(report.messages.sent)));
    has(format!("{} delivered", thousands(report.messages.delivered)));
    has("20,000 of 20,000 sessions".to_owned());
    let l = &report.latency_us.delivered;
    let of = |value: Option<u64>| super::latency(value).replace('\u{a0}', " ");
    has(format!("delivered {} {} {}", thousands(l.count), of(l.p50), of(l.p90)));
    has(format!("{} {}", of(l.p999), of(l.max)));
    has("lost 17 4242 99".to_owned());
    has(report.machine.kernel.clone());
    has("payload_bytes 150".to_owned());
}

#[test]
fn nothing_is_fetched_and_no_script_runs() {
    let page = page(&sample::report(60, 1));
    for word in ["http://", "https://", "src=", "url(", "@import", "<link", "<script", "href="] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'") || page.contains("default-src &#39;none&#39;"));
}

#[test]
fn hostile_names_stay_text() {
    let mut report = sample::report(20, 1);
    let hostile =
        "</title></style><script>alert(1)</script><img src=x onerror=\"alert(2)\">\u{1b}[2J";
    report.scenario.name = hostile.to_owned();
    report.scenario.parameters.insert(hostile.to_owned(), hostile.to_owned());
    report.target.url = hostile.to_owned();
    report.target.protocol = hostile.to_owned();
    report.versions.server = Some(hostile.to_owned());
    report.invalid_because = vec![hostile.to_owned()];
    report.valid = false;
    report.machine.kernel = hostile.to_owned();
    for threshold in &mut report.thresholds {
        threshold.goal = hostile.to_owned();
    }
    for example in &mut report.oracle.examples {
        example.detail = hostile.to_owned();
    }
    for second in &mut report.series {
        second.phase = hostile.to_owned();
    }
    report.generator.engine = hostile.to_owned();
    let page = page(&report);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    // One style and one title, however the names are spelt.
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(page.matches("</title>").count(), 1);
}

#[test]
fn what_else_became_of_messages_is_told_if_there_is_any() {
    let mut report = sample::report(10, 1);
    assert!(!text_of(&page(&report)).contains("Besides"));
    report.messages.refused = 12_345;
    report.messages.waiting = 7;
    let text = text_of(&page(&report));
    assert!(text.contains("Besides: 12,345 refused by the server; 7 not judged"), "{text}");
}

#[test]
fn why_sessions_failed_is_told() {
    let mut report = sample::report(10, 1);
    report.failures = vec![Failure { reason: "no <free> port".to_owned(), count: 1_800 }];
    assert!(page(&report).contains("1,800 x no &lt;free&gt; port"));
}

#[test]
fn an_empty_run_has_a_page_too() {
    let page = page(&Report::default());
    assert!(page.contains("No messages were sent"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn every_chart_is_inside_its_frame() {
    for seconds in [1, 2, 7, 300, 5_000] {
        let page = page(&sample::report(seconds, 3));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{seconds}");
        let ways = page.split(" d=\"M").skip(1).filter_map(|rest| rest.split('"').next());
        for pair in ways.flat_map(|way| way.split('L')) {
            let mut numbers = pair.split([' ', 'V', 'H', 'Z', 'v', 'h']);
            let x: f64 = numbers.next().unwrap().parse().unwrap();
            assert!((0.0..=520.0).contains(&x), "{pair}");
        }
        // A day is not drawn second by second.
        assert!(page.len() < 600_000, "{} bytes", page.len());
    }
}

#[test]
fn a_report_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    let report = sample::report(10, 1);
    report.write(&file).unwrap();
    assert!(Report::read(&file).unwrap() == report, "something changed on the way");
    for (text, expected) in [
        ("", "not a report"),
        ("{}", "not a report"),
        ("[1,2", "not a report"),
        (&serde_json::to_string(&Report::default()).unwrap(), "format 0"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = Report::read(&file).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = Report::read(&folder.path().join("b.json")).unwrap_err().to_string();
    assert!(error.contains("b.json"), "{error}");
}

#[test]
fn the_file_has_the_promised_fields() {
    let json = serde_json::to_value(sample::report(10, 1)).unwrap();
    for path in [
        "sessions.target sessions.established sessions.failed sessions.per_second",
        "messages.sent messages.acked messages.delivered messages.read",
        "messages.lost messages.duplicated messages.reordered messages.corrupted",
        "latency_us.connect.p50 latency_us.sent.p99 latency_us.delivered.p999 latency_us.read.max",
        "valid invalid_because server.rss_bytes_before server.rss_bytes_after",
        "server.user_bytes_per_session server.kernel_bytes_per_session server.cpu_us_per_message",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    {
        let value = path.split('.').fold(&json, |value, name| &value[name]);
        assert!(!value.is_null(), "{path}");
    }
}
