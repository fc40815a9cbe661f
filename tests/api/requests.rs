//! Requests that are too slow, too large, not what is expected, repeated, or cut off.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::street::{PASSWORD, Street, read_answer};

#[test]
fn what_is_not_expected_is_a_problem_that_says_what_to_do() {
    let street = Street::open();
    let ann = street.person("ann");
    let token = format!("Bearer {}", ann.token);
    let send =
        |method, path, body| street.send(method, path, &[("authorization", token.as_str())], body);
    send("GET", "/v1/nothing", None).fails(404, "not_found");
    send("PUT", "/v1/health", None).fails(405, "method_not_allowed");
    send("POST", "/v1/reports", Some("{")).fails(400, "invalid");
    send("POST", "/v1/reports", Some(r#"{"user":7,"reason":"x"}"#)).fails(400, "invalid");
    send("PATCH", "/v1/accounts/me", Some(r#"{"abuot":"x"}"#)).fails(400, "invalid");
    send("GET", "/v1/users/0", None).fails(400, "invalid");
    send("GET", "/v1/users/-1", None).fails(400, "invalid");
    send("GET", "/v1/contacts?limit=201", None).fails(400, "invalid");
    send("GET", "/v1/contacts?limti=1", None).fails(400, "invalid");
    send("GET", "/v1/users?handle=nobody.here", None).fails(404, "not_found");
    let text = [("authorization", token.as_str()), ("content-type", "text/plain")];
    street.send("POST", "/v1/reports", &text, Some("{}")).fails(415, "wrong_media_type");
    let key = [("authorization", token.as_str()), ("idempotency-key", "a b")];
    street.send("POST", "/v1/reports", &key, Some("{}")).fails(400, "invalid");
}

#[test]
fn oversized_requests_are_refused_and_the_server_lives_on() {
    let street = Street::open();
    let large = "x".repeat(myriad::limits::API_BODY_BYTES_MAX + 1);
    let mut stream = street.connect();
    let head = "POST /v1/accounts HTTP/1.1\r\nHost: api\r\nConnection: close\r\n";
    let stated = format!("{head}content-length: {}\r\n\r\n", large.len());
    stream.write_all(stated.as_bytes()).unwrap();
    read_answer(&mut stream).unwrap().fails(413, "too_large");
    // Without a length it is counted.
    let mut stream = street.connect();
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n", large.len());
    stream.write_all(chunked.as_bytes()).unwrap();
    let _refused_before_its_end = stream.write_all(large.as_bytes());
    read_answer(&mut stream).unwrap().fails(413, "too_large");
    // Headers have a bound too.
    let long = "y".repeat(myriad::limits::API_HEAD_BYTES_MAX);
    let mut stream = street.connect();
    let _cut_off = write!(stream, "GET /v1/health HTTP/1.1\r\nHost: api\r\nx-long: {long}\r\n\r\n");
    assert!(read_answer(&mut stream).is_none_or(|answer| answer.status == 431));
    street.ask("GET", "/v1/health", None, None).is(200);
}

#[test]
fn slow_waiting_for_head_and_body_has_an_end() {
    let street = Street::open();
    let mut head = street.connect();
    let mut body = street.connect();
    let began = Instant::now();
    head.write_all(b"GET /v1/health HTTP/1.1\r\nHost:").unwrap();
    let start = "POST /v1/accounts HTTP/1.1\r\nHost: api\r\nConnection: close\r\n";
    write!(body, "{start}content-length: 100\r\n\r\nx").unwrap();
    street.ask("GET", "/v1/health", None, None).is(200);
    read_answer(&mut body).unwrap().fails(408, "too_slow");
    assert!(began.elapsed() >= Duration::from_millis(myriad::limits::API_BODY_MS) / 2);
    // Closed, with or without a word.
    assert!(read_answer(&mut head).is_none_or(|answer| answer.status == 408));
}

#[test]
fn a_repeat_gets_the_first_answer_again_also_after_a_kill() {
    let mut street = Street::open();
    let (ann, bob) = (street.person("ann"), street.person("bob"));
    let body = json!({"user": bob.id, "reason": "spam"}).to_string();
    let report = |street: &Street, token: &str, key: &str, body: &str| {
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str()), ("idempotency-key", key)];
        street.send("POST", "/v1/reports", &headers, Some(body))
    };
    let first = report(&street, &ann.token, "k1", &body).is(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = report(&street, &ann.token, "k1", &body).is(201);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&first.body, Some("true")));
    let other = json!({"user": bob.id, "reason": "rude"}).to_string();
    report(&street, &ann.token, "k1", &other).fails(422, "key_reused");
    // A key is its user's own.
    let bobs = json!({"user": ann.id, "reason": "spam"}).to_string();
    assert_ne!(report(&street, &bob.token, "k1", &bobs).is(201).body, first.body);
    street.kill_and_restart();
    assert_eq!(report(&street, &ann.token, "k1", &body).is(201).body, first.body);
}

#[test]
fn a_lost_answer_with_tokens_comes_again_for_the_same_request_alone() {
    let street = Street::open();
    let ann = street.person("ann");
    let refresh = |key: &str, token: &str| {
        let body = json!({"refresh_token": token}).to_string();
        street.send("POST", "/v1/sessions/refresh", &[("idempotency-key", key)], Some(&body))
    };
    let first = refresh("r1", &ann.refresh).is(201);
    assert_eq!(refresh("r1", &ann.refresh).is(201).body, first.body);
    // Before login a key is the request's own: nobody else's request meets it.
    refresh("r1", "another token").fails(401, "unauthorized");
    // What was refused is not kept: anybody may ask, and there is not room for everybody.
    refresh("r0", "no token").fails(401, "unauthorized");
    let log_in =
        |body: &str| street.send("POST", "/v1/sessions", &[("idempotency-key", "r3")], Some(body));
    log_in("{}").fails(400, "invalid");
    let body = json!({"handle": ann.name, "password": PASSWORD}).to_string();
    log_in(&body).is(201);
    // Without the key it is a second use: the device is logged out.
    refresh("r2", &ann.refresh).fails(401, "unauthorized");
    let token = first.text("access_token");
    street.ask("GET", "/v1/accounts/me", Some(&token), None).fails(401, "unauthorized");
}

#[test]
fn guessing_a_password_is_slowed_down_for_the_name_and_not_for_others() {
    let street = Street::open();
    let (ann, bob) = (street.person("ann"), street.person("bob"));
    let guess = |name: &str, password: &str| {
        let body = json!({"handle": name, "password": password});
        street.ask("POST", "/v1/sessions", None, Some(&body))
    };
    for _ in 0..myriad::limits::API_NAME_BURST {
        guess(&ann.name, "a wrong password").fails(401, "wrong_credentials");
    }
    let limited = guess(&ann.name, "a wrong password").fails(429, "rate_limited");
    let wait_s: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    assert!(limited.body["retry_after_ms"].as_u64().unwrap() > 0);
    guess(&bob.name, PASSWORD).is(201);
}

#[test]
fn a_stop_in_the_midst_of_requests_answers_those_under_way() {
    let mut street = Street::open();
    let ann = street.person("ann");
    let body = json!({"about": "busy"}).to_string();
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = street.connect();
            let token = &ann.token;
            let length = body.len();
            write!(
                stream,
                "PATCH /v1/accounts/me HTTP/1.1\r\nHost: api\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    // One that is never finished must not hold the server up.
    let mut never = street.connect();
    never
        .write_all(b"POST /v1/accounts HTTP/1.1\r\nHost: api\r\ncontent-length: 9\r\n\r\n")
        .unwrap();
    let idle = street.connect();
    let began = Instant::now();
    let status = street.server.stop();
    assert!(status.success(), "{status}: {}", street.said());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for mut stream in asked {
        let answer = read_answer(&mut stream).expect("an answer");
        assert!([200, 503].contains(&answer.status), "{answer:?}");
    }
    drop(idle);
}

#[test]
fn the_servers_log_holds_no_secret() {
    let street = Street::open();
    let ann = street.person("ann");
    let wrong = json!({"handle": ann.name, "password": "a wrong password"});
    street.ask("POST", "/v1/sessions", None, Some(&wrong)).is(401);
    street.ask("GET", "/v1/users?handle=%2B4915112345678", Some(&ann.token), None).is(404);
    let made = json!({"valid_s": 60});
    let admin = Some(crate::street::ADMIN);
    let code = street.ask("POST", "/v1/admin/invites", admin, Some(&made)).is(201).text("code");
    let payload = "c2VjcmV0IHdvcmRz";
    let message = json!({"to": {"user": ann.id}, "client_id": "1", "payload": payload});
    street.ask("POST", "/v1/messages", Some(&ann.token), Some(&message)).is(201);
    let said = street.said();
    assert!(said.contains(r#""api":"/v1/messages""#), "requests are in the log: {said}");
    let secrets = [PASSWORD, "wrong password", &ann.token, &ann.refresh, &code, payload];
    for secret in secrets.into_iter().chain([crate::street::ADMIN, "secret words", "15112345678"]) {
        assert!(!said.contains(secret), "{secret} is in the log");
    }
}
