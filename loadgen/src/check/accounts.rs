//! Three people who make accounts, find each other, talk and make a group, over a kill -9.

use client::api::{Api, ApiError, Login};
use client::{ClientEvent, TickMark};
use wire::Stream;

use super::CheckError;
use super::moves::{missing, tick, wait};
use crate::peer::Peer;
use crate::process::{Home, ProcessError, ServeOptions, ServerProcess};

/// Theirs, all three: nobody else ever reaches this server.
const PASSWORD: &str = "correct horse battery";

/// Somebody with an account.
struct Person {
    name: &'static str,
    login: Login,
    api: Api,
    peer: Peer,
}

/// Plays it with a server of its own.
pub(super) fn play(serve: &ServeOptions, transport: &str) -> Result<(), CheckError> {
    let home = Home::new()?;
    let mut serve = serve.clone();
    let arguments = ["--api-listen", "127.0.0.1:0", "--registration", "open"];
    serve.arguments.extend(arguments.map(str::to_owned));
    let result = play_in(&serve, transport, &home);
    if result.is_err() {
        crate::say!("the server's last words:\n{}", home.log_tail());
    }
    result
}

fn play_in(serve: &ServeOptions, transport: &str, home: &Home) -> Result<(), CheckError> {
    let server = ServerProcess::start(serve, home)?;
    crate::say!("server   {}", server.first_line());
    let mut dora = register(&server, transport, "dora")?;
    let mut emil = register(&server, transport, "emil")?;
    let mut fay = register(&server, transport, "fay")?;

    let found = call("dora finds emil", dora.api.find("emil"))?;
    if found.id != emil.login.user {
        return Err(CheckError::wrong("dora finds emil by name", found));
    }
    say(&mut dora, Stream::User(found.id), "Hello Emil")?;
    hears(&mut emil, "Hello Emil")?;

    let group = call("dora makes a group", dora.api.create_group("hikers"))?;
    for other in [&emil, &fay] {
        let add = dora.api.add_member(group.id, other.login.user);
        call("dora adds to her group", add)?;
    }
    crate::say!("dora     made the group {} with emil and fay", group.name);
    let client_id = say(&mut dora, Stream::Group(group.id), "Who comes along?")?;
    for other in [&mut emil, &mut fay] {
        hears(other, "Who comes along?")?;
    }
    tick(&mut dora.peer, client_id, TickMark::Has)?;
    crate::say!("dora     ✓✓ delivered to everybody in the group");

    server.kill()?;
    let server = ServerProcess::start(serve, home)?;
    crate::say!("server   killed with kill -9, and back");
    for person in [&mut dora, &mut emil, &mut fay] {
        come_back(person, &server, transport)?;
    }
    say(&mut emil, Stream::Group(group.id), "Me!")?;
    for other in [&mut dora, &mut fay] {
        hears(other, "Me!")?;
    }
    call("emil blocks fay", emil.api.set_blocked(fay.login.user, true))?;
    let client_id = say(&mut fay, Stream::User(emil.login.user), "And I?")?;
    tick(&mut fay.peer, client_id, TickMark::Sent)?;
    let heard = |event: &ClientEvent| words(event) == "And I?";
    super::moves::absent(&mut emil.peer, "emil hears nothing of whom he blocked", heard)?;
    crate::say!("emil     hears nothing of fay, whom he blocked");
    Ok(())
}

fn api_of(server: &ServerProcess) -> Result<Api, CheckError> {
    let api = server.api().ok_or_else(|| ProcessError::NotStarted {
        reason: "it has no HTTP API".to_owned(),
        log: String::new(),
    })?;
    Ok(Api::new(&api))
}

fn register(
    server: &ServerProcess,
    transport: &str,
    name: &'static str,
) -> Result<Person, CheckError> {
    let api = api_of(server)?;
    let login = call("registering", api.register(name, PASSWORD, None, "check"))?;
    let peer = Peer::login(&server.url(transport), &login.access);
    let peer = peer.map_err(missing(&format!("{name} logs in")))?;
    crate::say!("{name:8} registered and logged in as user {}", login.user);
    Ok(Person { name, api: api.with_token(&login.access), login, peer })
}

/// With fresh tokens of the server that is there now.
fn come_back(
    person: &mut Person,
    server: &ServerProcess,
    transport: &str,
) -> Result<(), CheckError> {
    super::moves::drain(&mut person.peer);
    let api = api_of(server)?;
    person.login = call("getting fresh tokens", api.refresh(&person.login.refresh))?;
    person.api = api.with_token(&person.login.access);
    person.peer.client.session.renew(person.login.access.clone());
    let back = person.peer.reconnect_to(&server.url(transport));
    back.map_err(missing(&format!("{} comes back", person.name)))
}

fn call<T>(what: &str, result: Result<T, ApiError>) -> Result<T, CheckError> {
    result.map_err(|source| CheckError::Api { what: what.to_owned(), source })
}

fn say(person: &mut Person, to: Stream, words: &str) -> Result<u64, CheckError> {
    let sent = person.peer.send_to(to, words);
    let client_id = sent.map_err(missing(&format!("{} sends", person.name)))?;
    crate::say!("{:8} -> {}: {words}", person.name, if is_group(to) { "group" } else { "user" });
    Ok(client_id)
}

fn is_group(to: Stream) -> bool {
    matches!(to, Stream::Group(_))
}

fn hears(person: &mut Person, wanted: &str) -> Result<(), CheckError> {
    let what = format!("{} gets `{wanted}`", person.name);
    wait(&mut person.peer, &what, |event| words(event) == wanted)?;
    // Acks of groups gather for a while, and nobody waits on this one meanwhile.
    person.peer.client.session.acknowledge();
    person.peer.client.flush().map_err(|error| missing(&what)(error.into()))?;
    crate::say!("{:8} <- {wanted}", person.name);
    Ok(())
}

fn words(event: &ClientEvent) -> String {
    match event {
        ClientEvent::Message { payload, .. } | ClientEvent::GroupMessage { payload, .. } => {
            String::from_utf8_lossy(payload).into_owned()
        }
        _ => String::new(),
    }
}
