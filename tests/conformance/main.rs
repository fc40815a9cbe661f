//! One body of checks, every driver: what `src/io/mod.rs` promises.
//!
//! Each check is a function over a [`World`]: drivers of a few shards and clients that can reach
//! them. The list below runs every check on the readiness driver and on io_uring over loopback
//! sockets, and on the simulated one over a calm network and over several bad ones. What only real
//! sockets have (doorbells, descriptors that run out) follows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking, and its patterns wrap on purpose"
)]

mod checks;
mod server;
mod worlds;

use crate::server::{pattern, push, shard, until};
#[cfg(target_os = "linux")]
use crate::worlds::uring_world;
use crate::worlds::{Client, SimWorld, SocketWorld, World, ready_world, sim_world};
use myriad::io::ready::Ready;
use myriad::io::sim::Faults;
#[cfg(target_os = "linux")]
use myriad::io::uring::Uring;
use myriad::io::{Completion, Driver, How, Next};
use myriad::mem::{Slab, Token};
use socket2::SockRef;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

// ---- every check on every driver ----------------------------------------------------------------

macro_rules! conformance {
    ($($check:ident $(with $receive_bytes:literal)?;)*) => {
        mod ready {
            use crate::{checks, worlds::ready_world};
            $(#[test] fn $check() {
                let receive_bytes = [4096 $(, $receive_bytes)?];
                let mut world = ready_world(*receive_bytes.last().unwrap());
                checks::$check(&mut world);
            })*
        }
        #[cfg(target_os = "linux")]
        mod uring {
            use crate::{checks, worlds::uring_world};
            $(#[test] fn $check() {
                let receive_bytes = [4096 $(, $receive_bytes)?];
                let receive_bytes = *receive_bytes.last().unwrap();
                // One ring that holds all, then very many.
                for slots_per_ring in [4096, 16] {
                    eprintln!("{slots_per_ring} slots per ring");
                    checks::$check(&mut uring_world(receive_bytes, slots_per_ring));
                }
            })*
        }
        mod sim {
            use crate::{checks, worlds::sim_world};
            use myriad::io::sim::Faults;
            $(#[test] fn $check() {
                let receive_bytes = [4096 $(, $receive_bytes)?];
                let receive_bytes = *receive_bytes.last().unwrap();
                checks::$check(&mut sim_world(0, Faults::none(), receive_bytes));
                for seed in 1..6 {
                    eprintln!("seed {seed}");
                    checks::$check(&mut sim_world(seed, Faults::pieces(), receive_bytes));
                }
            })*
        }
    };
}

conformance! {
    echo_keeps_order;
    a_byte_at_a_time_arrives;
    a_large_buffer_leaves_through_a_slow_reader with 65536;
    a_pause_keeps_bytes_and_the_end;
    pausing_from_outside_holds_too;
    sending_goes_on_during_a_pause;
    moving_to_another_shard_keeps_bytes;
    a_graceful_close_delivers_what_was_sent;
    a_close_is_the_last_word;
    closing_from_the_sink_works;
    a_late_half_close_hits_nobody_else;
    a_half_close_ends_after_the_last_byte with 64;
    an_end_that_comes_later_is_noticed;
    a_reset_is_told_once;
    sends_to_a_peer_that_left_end_in_one_closed;
    a_stale_token_harms_nobody;
    an_index_beyond_the_plan_is_refused;
    accepting_stops_and_starts;
    a_socket_dropped_unattached_closes;
    nobody_is_served_twice_before_the_others with 16;
    a_turn_serves_no_more_than_it_is_told;
    two_thousand_connections_at_once;
}

// ---- what only real sockets have ----------------------------------------------------------------

#[test]
fn a_doorbell_ends_a_sleep_without_end() {
    let mut world = ready_world(64);
    let doorbell = world.driver(0).doorbell();
    let mut quiet = |_: Completion<'_, TcpStream>| Next::Read;
    world.driver(0).poll(Some(Duration::ZERO), 8, &mut quiet).unwrap();
    // Rung before the sleep begins, and during it.
    for early in [true, false] {
        doorbell.prepare_sleep();
        let ringer = doorbell.clone();
        let thread = std::thread::spawn(move || {
            if !early {
                std::thread::sleep(Duration::from_millis(50));
            }
            ringer.ring();
        });
        if early {
            thread.join().unwrap();
            world.driver(0).poll(None, 8, &mut quiet).unwrap();
        } else {
            world.driver(0).poll(None, 8, &mut quiet).unwrap();
            thread.join().unwrap();
        }
        doorbell.awake();
    }
}

/// Sixteen slots have a queue of sixteen completions: sends alone fill it, and whatever the kernel
/// has to report meanwhile of the listener, the bell and the sockets finds no room.
#[test]
#[cfg(target_os = "linux")]
fn a_full_completion_queue_loses_neither_door_nor_bell_nor_data() {
    let mut world = uring_world(64, 16);
    let mut shard = shard::<SocketWorld<Uring>>(0);
    let mut clients: Vec<_> = (0..40).map(|_| shard.meet(&mut world)).collect();
    shard.turns(&mut world, 5);
    let doorbell = world.driver(0).doorbell();
    for round in 1..=20 {
        let sent: Vec<_> = clients.iter().map(|(token, _)| shard.story(*token).sent).collect();
        for (token, _) in &clients {
            assert!(world.driver(0).send(*token, b"answer".to_vec()).is_none());
        }
        for (_, client) in &mut clients {
            assert_eq!(Client::write(client, b"question"), Some(8));
        }
        let newcomer = world.connect(0);
        doorbell.prepare_sleep();
        doorbell.ring();
        until(&mut world, |world| {
            shard.turn(world);
            let done = |((token, _), sent): (&(Token, TcpStream), &usize)| {
                let story = shard.story(*token);
                story.sent == sent + 1 && story.data.len() == 8 * round
            };
            shard.accepted.len() == round && clients.iter().zip(&sent).all(done)
        });
        drop(newcomer);
    }
    // And the bell still ends a sleep without end.
    doorbell.prepare_sleep();
    let ringer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        doorbell.ring();
    });
    world.driver(0).poll(None, 8, &mut |_| Next::Read).unwrap();
    ringer.join().unwrap();
}

#[test]
fn accepted_sockets_are_ready_for_chat() {
    let mut world = ready_world(64);
    let mut shard = shard::<SocketWorld<Ready>>(0);
    let _client = world.connect(0);
    until(&mut world, |world| {
        shard.turn(world);
        !shard.accepted.is_empty()
    });
    let (mut socket, source) = shard.accepted.pop_front().unwrap();
    assert_eq!(source, IpAddr::from([127, 0, 0, 1]));
    assert!(socket.nodelay().unwrap(), "inherited from the listener");
    #[cfg(target_os = "linux")]
    assert_eq!(
        SockRef::from(&socket).tcp_user_timeout().unwrap(),
        Some(Duration::from_millis(myriad::limits::USER_TIMEOUT_MS)),
        "inherited from the listener"
    );
    let error = Read::read(&mut socket, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// Lowering the limit concerns the whole process, so a process of its own plays this.
#[test]
fn running_out_of_descriptors_rests_and_recovers() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_descriptors", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}{said}");
}

#[test]
#[ignore = "run by running_out_of_descriptors_rests_and_recovers"]
fn child_without_descriptors() {
    use std::os::fd::AsRawFd;
    let mut world = ready_world(64);
    let mut shard = shard::<SocketWorld<Ready>>(0);
    let (token, mut client) = shard.meet(&mut world);
    let (_, hard) = myriad::sys::nofile().unwrap();
    let waiting: Vec<_> = (0..20).map(|_| world.connect(0)).collect();
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    myriad::sys::set_nofile(u64::try_from(next).unwrap() + 4).unwrap();

    let (start, mut polls) = (Instant::now(), 0);
    let mut rest: &[u8] = b"established";
    while start.elapsed() < Duration::from_millis(550) {
        shard.turn_with(&mut world, 64, |_| Next::Read);
        polls += 1;
        if !rest.is_empty() {
            push(&mut client, &mut rest);
        }
    }
    assert_eq!(shard.accepted.len(), 4);
    assert_eq!(shard.story(token).data, b"established", "those who are in go on");
    let counts = world.driver(0).counts();
    assert!((1..=7).contains(&counts.accept_pauses), "{counts:?}");
    assert!(polls < 250, "{polls} polls of 5 ms in 550 ms: it spins");

    shard.accepted.clear();
    until(&mut world, |world| {
        shard.turn(world);
        shard.accepted.len() == 4
    });
    myriad::sys::set_nofile(hard).unwrap();
    until(&mut world, |world| {
        shard.turn(world);
        shard.accepted.len() == 16
    });
    assert_eq!(waiting.len(), 20);
}

// ---- what only the simulation has -------------------------------------------------------------

/// What happens with this seed, as text.
fn trace(seed: u64) -> Vec<String> {
    let faults = Faults { resets_per_million: 20_000, ..Faults::pieces() };
    let mut world = sim_world(seed, faults, 256);
    let mut slab = Slab::with_capacity(4096);
    let mut clients: Vec<_> = (0..10).map(|_| world.connect(0)).collect();
    let mut trace = Vec::new();
    for step in 0..200 {
        for client in &mut clients {
            let _ = client.write(&pattern(100));
        }
        let mut sockets = Vec::new();
        world.drivers[0]
            .poll(None, 5, &mut |completion| {
                if let Completion::Accepted { socket, .. } = completion {
                    sockets.push(socket);
                } else {
                    trace.push(format!("{step} {completion:?}"));
                }
                Next::Read
            })
            .unwrap();
        for socket in sockets {
            let token = slab.insert(()).unwrap();
            world.drivers[0].attach(token, socket).unwrap();
        }
    }
    trace
}

#[test]
fn the_same_seed_gives_the_same_story() {
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
    assert!(trace(7).iter().any(|line| line.contains("Reset")));
}

#[test]
fn a_client_that_vanishes_leaves_a_bounded_half_open_connection() {
    let mut world = sim_world(1, Faults::none(), 64);
    let mut shard = shard::<SimWorld>(0);
    let (token, client) = shard.meet(&mut world);
    client.vanish();
    assert!(world.drivers[0].send(token, pattern(1 << 20)).is_none());
    shard.turns(&mut world, 100);
    assert!(shard.story(token).closed.is_empty());
    assert_eq!(shard.story(token).sent, 0);
    world.drivers[0].close(token, How::Reset);
}
