//! What every driver promises, each a function over a world.

use crate::server::{pattern, push, shard, until, write_all};
use crate::worlds::{Client, World};
use myriad::io::sim::Heard;
use myriad::io::{Closed, Driver, How, Next};
use myriad::mem::Token;
use std::io::ErrorKind;

/// Sends everything read back, one send at a time, and compares at the client.
pub(crate) fn echo_keeps_order<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    let all = pattern(300_000);
    let (mut rest, mut heard) = (&all[..], Vec::new());
    let (mut echoed, mut under_way, mut delayed) = (0, false, 0);
    until(world, |world| {
        if !rest.is_empty() {
            push(&mut client, &mut rest);
        }
        shard.turn(world);
        if under_way && shard.story(token).sent == delayed {
            under_way = false;
        }
        let data = &shard.story(token).data;
        if !under_way && echoed < data.len() {
            let buffer = data[echoed..].to_vec();
            echoed = data.len();
            if world.driver(0).send(token, buffer).is_none() {
                under_way = true;
                delayed += 1;
            }
        }
        client.read(&mut heard);
        heard.len() == all.len()
    });
    assert_eq!(heard, all);
    assert_eq!(shard.story(token).data, all);
}

pub(crate) fn a_byte_at_a_time_arrives<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    let all = pattern(300);
    for byte in &all {
        write_all(world, &mut shard, &mut client, std::slice::from_ref(byte));
        shard.turn(world);
    }
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data.len() == all.len()
    });
    assert_eq!(shard.story(token).data, all);
}

pub(crate) fn a_large_buffer_leaves_through_a_slow_reader<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    // Loopback buffers can grow to several megabytes.
    let all = pattern(16 << 20);
    assert!(world.driver(0).send(token, all.clone()).is_none(), "it can't all fit");
    shard.turns(world, 20);
    assert_eq!(shard.story(token).sent, 0, "nobody has read it");
    // Its input is served meanwhile.
    write_all(world, &mut shard, &mut client, b"still here");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"still here"
    });
    let mut heard = Vec::new();
    until(world, |world| {
        while let Heard::Bytes(_) = client.read(&mut heard) {}
        shard.turn(world);
        heard.len() == all.len()
    });
    assert!(heard == all);
    until(world, |world| {
        shard.turn(world);
        shard.story(token).sent == 1
    });
    shard.turns(world, 3);
    assert_eq!(shard.story(token).sent, 1);
    assert!(shard.story(token).closed.is_empty());
    // And the next send goes its way.
    let _ = world.driver(0).send(token, b"more".to_vec());
    let mut heard = Vec::new();
    until(world, |world| {
        shard.turn(world);
        client.read(&mut heard);
        heard == b"more"
    });
}

pub(crate) fn a_pause_keeps_bytes_and_the_end<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    write_all(world, &mut shard, &mut client, b"first");
    until(world, |world| !shard.turn_with(world, 64, |_| Next::Pause).is_empty());
    let before = shard.story(token).data.len();
    let mut rest: &[u8] = b" second";
    until(world, |_| {
        push(&mut client, &mut rest);
        rest.is_empty()
    });
    client.finish();
    for _ in 0..20 {
        assert!(shard.turn(world).is_empty(), "data during a pause");
    }
    assert_eq!(shard.story(token).data.len(), before);
    assert!(shard.story(token).closed.is_empty(), "the end comes after the bytes");
    world.driver(0).resume(token);
    until(world, |world| {
        shard.turn(world);
        !shard.story(token).closed.is_empty()
    });
    assert_eq!(shard.story(token).data, b"first second");
    assert_eq!(shard.story(token).closed, [Closed::Peer]);
}

pub(crate) fn pausing_from_outside_holds_too<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    world.driver(0).pause(token);
    let mut rest: &[u8] = b"wait";
    until(world, |_| {
        push(&mut client, &mut rest);
        rest.is_empty()
    });
    shard.turns(world, 20);
    assert!(shard.story(token).data.is_empty());
    world.driver(0).resume(token);
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"wait"
    });
}

pub(crate) fn sending_goes_on_during_a_pause<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    world.driver(0).pause(token);
    let all = pattern(16 << 20);
    assert!(world.driver(0).send(token, all.clone()).is_none());
    let mut heard = Vec::new();
    until(world, |world| {
        while let Heard::Bytes(_) = client.read(&mut heard) {}
        shard.turn(world);
        shard.story(token).sent == 1
    });
    // The peer's end is found by a send, pause or not.
    client.reset();
    until(world, |world| {
        if shard.story(token).closed.is_empty() {
            let _ = world.driver(0).send(token, b"anybody?".to_vec());
        }
        shard.turn(world);
        !shard.story(token).closed.is_empty()
    });
    assert_eq!(shard.story(token).closed, [Closed::Reset]);
}

pub(crate) fn moving_to_another_shard_keeps_bytes<W: World>(world: &mut W) {
    let mut from = shard::<W>(0);
    from.moving = true;
    let mut to = shard::<W>(1);
    for unread in [0, 1, 3000] {
        let (token, mut client) = from.meet(world);
        let all = pattern(5000 + unread);
        write_all(world, &mut from, &mut client, &all[..2000]);
        until(world, |world| {
            from.turn(world);
            from.story(token).data.len() >= 2000
        });
        // Some bytes are in the kernel when it moves, the others come later.
        let mut rest = &all[2000..2000 + unread];
        until(world, |world| {
            push(&mut client, &mut rest);
            if !rest.is_empty() {
                from.turn(world);
            }
            rest.is_empty()
        });
        let socket = world.driver(0).detach(token).expect("attached");
        assert!(world.driver(0).detach(token).is_none());
        let moved = to.attach(world, socket);
        let mut rest = &all[2000 + unread..];
        until(world, |world| {
            push(&mut client, &mut rest);
            from.turn(world);
            to.turn(world);
            let seen = from.story(token).data.len() + to.story(moved).data.len();
            seen == all.len()
        });
        let mut seen = from.story(token).data.clone();
        seen.extend_from_slice(&to.story(moved).data);
        assert_eq!(seen, all);
        // It works there in both directions, and the old name means nothing any more.
        assert!(from.story(token).closed.is_empty());
        let mut heard = Vec::new();
        let _ = world.driver(1).send(moved, b"at home".to_vec());
        until(world, |world| {
            to.turn(world);
            client.read(&mut heard);
            heard == b"at home"
        });
    }
}

pub(crate) fn a_graceful_close_delivers_what_was_sent<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    // Input that nobody has read must not turn the end into a reset.
    let mut rest: &[u8] = b"unread input";
    until(world, |_| {
        push(&mut client, &mut rest);
        rest.is_empty()
    });
    if world.driver(0).send(token, b"goodbye".to_vec()).is_none() {
        until(world, |world| {
            shard.turn(world);
            shard.story(token).sent == 1
        });
    }
    world.driver(0).close(token, How::Graceful);
    let mut heard = Vec::new();
    let mut last = Heard::Nothing;
    until(world, |world| {
        shard.turn(world);
        last = client.read(&mut heard);
        matches!(last, Heard::End | Heard::Reset)
    });
    assert_eq!((heard.as_slice(), last), (&b"goodbye"[..], Heard::End));
}

pub(crate) fn a_close_is_the_last_word<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    for how in [How::Graceful, How::Reset] {
        for under_way in [false, true] {
            let (token, mut client) = shard.meet(world);
            write_all(world, &mut shard, &mut client, b"data that nobody will see");
            if under_way {
                let _ = world.driver(0).send(token, pattern(16 << 20));
            }
            let before = shard.story(token).data.len();
            world.driver(0).close(token, how);
            shard.turns(world, 5);
            let mut heard = Vec::new();
            let mut last = Heard::Nothing;
            until(world, |world| {
                shard.turn(world);
                last = client.read(&mut heard);
                matches!(last, Heard::End | Heard::Reset)
            });
            if how == How::Reset {
                assert_eq!(last, Heard::Reset);
            }
            drop(client);
            shard.turns(world, 5);
            let story = shard.story(token);
            assert_eq!((story.data.len(), story.sent, story.closed.len()), (before, 0, 0));
        }
    }
}

pub(crate) fn closing_from_the_sink_works<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    let mut rest: &[u8] = b"nonsense";
    until(world, |world| {
        if !rest.is_empty() {
            push(&mut client, &mut rest);
        }
        !shard.turn_with(world, 64, |_| Next::Close).is_empty()
    });
    let mut heard = Vec::new();
    until(world, |world| {
        shard.turn(world);
        matches!(client.read(&mut heard), Heard::End | Heard::Reset)
    });
    shard.turns(world, 5);
    assert_eq!(shard.story(token).pieces.len(), 1);
    assert!(shard.story(token).closed.is_empty());
    assert!(world.driver(0).detach(token).is_none());
}

/// A half-close may be carried out later than it was asked for; whoever has the place of the one it
/// was meant for by then must not be hit.
pub(crate) fn a_late_half_close_hits_nobody_else<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    for _ in 0..100 {
        let leaving: Vec<_> = (0..3).map(|_| shard.meet(world)).collect();
        shard.turns(world, 2);
        let coming: Vec<_> = (0..3).map(|_| world.connect(0)).collect();
        until(world, |world| {
            shard.turn(world);
            shard.accepted.len() == coming.len()
        });
        for (token, _) in &leaving {
            world.driver(0).finish(*token);
            world.driver(0).close(*token, How::Graceful);
        }
        let mut clients = Vec::new();
        for client in coming {
            let (socket, _) = shard.accepted.pop_front().unwrap();
            clients.push((shard.attach(world, socket), client));
        }
        // Who came in which order is not known: what is said to all must reach all.
        for (token, client) in &mut clients {
            write_all(world, &mut shard, client, b"question");
            let _sent_or_under_way = world.driver(0).send(*token, b"answer".to_vec());
        }
        let mut heard = vec![Vec::new(); clients.len()];
        until(world, |world| {
            shard.turn(world);
            for ((_, client), heard) in clients.iter_mut().zip(&mut heard) {
                assert!(!matches!(client.read(heard), Heard::End | Heard::Reset));
            }
            let asked = clients.iter().all(|(token, _)| shard.story(*token).data == b"question");
            asked && heard.iter().all(|heard| heard == b"answer")
        });
        for (token, client) in clients {
            assert!(shard.story(token).closed.is_empty());
            world.driver(0).close(token, How::Graceful);
            drop(client);
        }
    }
}

pub(crate) fn a_half_close_ends_after_the_last_byte<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    // Also exactly full buffers, and an end that comes with the bytes.
    for bytes in [0, 1, 64, 128, 1000, 1024, 65_536] {
        let (token, mut client) = shard.meet(world);
        let all = pattern(bytes);
        let mut rest = &all[..];
        until(world, |world| {
            if !rest.is_empty() {
                push(&mut client, &mut rest);
            }
            if !rest.is_empty() {
                shard.turn(world);
            }
            rest.is_empty()
        });
        client.finish();
        until(world, |world| {
            shard.turn(world);
            !shard.story(token).closed.is_empty()
        });
        assert_eq!(shard.story(token).data, all);
        shard.turns(world, 3);
        assert_eq!(shard.story(token).closed, [Closed::Peer]);
        // The driver has let go: the client sees the end too.
        let mut heard = Vec::new();
        until(world, |world| {
            shard.turn(world);
            client.read(&mut heard) == Heard::End
        });
    }
}

pub(crate) fn an_end_that_comes_later_is_noticed<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    write_all(world, &mut shard, &mut client, b"hello");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"hello"
    });
    shard.turns(world, 3);
    assert!(shard.story(token).closed.is_empty());
    drop(client);
    until(world, |world| {
        shard.turn(world);
        !shard.story(token).closed.is_empty()
    });
    assert_eq!(shard.story(token).closed, [Closed::Peer]);
}

pub(crate) fn a_reset_is_told_once<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    for sending in [false, true] {
        let (token, client) = shard.meet(world);
        if sending {
            assert!(world.driver(0).send(token, pattern(16 << 20)).is_none());
        }
        client.reset();
        until(world, |world| {
            shard.turn(world);
            !shard.story(token).closed.is_empty()
        });
        shard.turns(world, 5);
        assert_eq!(shard.story(token).closed, [Closed::Reset]);
        assert_eq!(world.driver(0).send(token, b"late".to_vec()), Some(b"late".to_vec()));
    }
}

pub(crate) fn sends_to_a_peer_that_left_end_in_one_closed<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, client) = shard.meet(world);
    drop(client);
    let mut under_way = 0;
    until(world, |world| {
        let story = shard.story(token);
        let ended = !story.closed.is_empty();
        if !ended && story.sent == under_way && world.driver(0).send(token, vec![7]).is_none() {
            under_way += 1;
        }
        shard.turn(world);
        ended
    });
    shard.turns(world, 5);
    assert_eq!(shard.story(token).closed.len(), 1);
}

pub(crate) fn a_stale_token_harms_nobody<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (old, client) = shard.meet(world);
    world.driver(0).close(old, How::Graceful);
    shard.tokens.remove(old);
    drop(client);
    let (token, mut client) = shard.meet(world);
    assert_eq!(token.index, old.index);
    let stale = world.driver(0).counts().stale;
    world.driver(0).pause(old);
    world.driver(0).close(old, How::Reset);
    world.driver(0).resume(old);
    assert!(world.driver(0).detach(old).is_none());
    assert_eq!(world.driver(0).send(old, b"no".to_vec()), Some(b"no".to_vec()));
    assert_eq!(world.driver(0).counts().stale, stale + 5);
    write_all(world, &mut shard, &mut client, b"new tenant");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"new tenant"
    });
    assert!(shard.story(old).data.is_empty());
    let beyond = Token { index: 4096, generation: 1 };
    world.driver(0).close(beyond, How::Reset);
    assert!(world.driver(0).detach(beyond).is_none());
}

pub(crate) fn an_index_beyond_the_plan_is_refused<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let _client = world.connect(0);
    until(world, |world| {
        shard.turn(world);
        !shard.accepted.is_empty()
    });
    let (socket, _) = shard.accepted.pop_front().unwrap();
    let error = world.driver(0).attach(Token { index: 4096, generation: 1 }, socket).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

pub(crate) fn accepting_stops_and_starts<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    world.driver(0).accept(false);
    let _waiting: Vec<_> = (0..3).map(|_| world.connect(0)).collect();
    shard.turns(world, 10);
    assert!(shard.accepted.is_empty());
    write_all(world, &mut shard, &mut client, b"we go on");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"we go on"
    });
    world.driver(0).accept(true);
    until(world, |world| {
        shard.turn(world);
        shard.accepted.len() == 3
    });
}

pub(crate) fn a_socket_dropped_unattached_closes<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let mut client = world.connect(0);
    until(world, |world| {
        shard.turn(world);
        shard.accepted.pop_front().is_some()
    });
    let mut heard = Vec::new();
    until(world, |world| {
        shard.turn(world);
        matches!(client.read(&mut heard), Heard::End | Heard::Reset)
    });
}

/// With a small receive buffer (the list below says so) a greedy client is ready all the time.
pub(crate) fn nobody_is_served_twice_before_the_others<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let mut clients: Vec<_> = (0..4).map(|_| shard.meet(world)).collect();
    let greed = pattern(60_000);
    let mut rest = &greed[..];
    for _ in 0..200 {
        for (at, (_, client)) in clients.iter_mut().enumerate() {
            if at == 0 && !rest.is_empty() {
                push(client, &mut rest);
            } else if at > 0 {
                let _ = client.write(b"me too");
            }
        }
        let served = shard.turn(world);
        let mut once = served.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), served.len(), "served twice in one poll");
    }
    until(world, |world| {
        if !rest.is_empty() {
            push(&mut clients[0].1, &mut rest);
        }
        shard.turn(world);
        shard.story(clients[0].0).data.len() == greed.len()
    });
    for (token, _) in &clients[1..] {
        assert!(shard.story(*token).pieces.len() > 20, "starved");
    }
}

pub(crate) fn a_turn_serves_no_more_than_it_is_told<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let mut clients: Vec<_> = (0..20).map(|_| shard.meet(world)).collect();
    for (_, client) in &mut clients {
        let mut rest: &[u8] = b"!";
        until(world, |_| {
            push(client, &mut rest);
            rest.is_empty()
        });
    }
    let mut served = 0;
    until(world, |world| {
        let now = shard.turn_with(world, 3, |_| Next::Read).len();
        assert!(now <= 3);
        served += now;
        served == 20
    });
    for (token, _) in &clients {
        assert_eq!(shard.story(*token).data, b"!");
    }
}

pub(crate) fn two_thousand_connections_at_once<W: World>(world: &mut W) {
    const CONNS: usize = 2_000;
    let mut shard = shard::<W>(0);
    let mut clients: Vec<_> = (0..CONNS).map(|_| world.connect(0)).collect();
    let mut tokens = Vec::new();
    until(world, |world| {
        shard.turn(world);
        while let Some((socket, _)) = shard.accepted.pop_front() {
            tokens.push(shard.attach(world, socket));
        }
        tokens.len() == CONNS
    });
    for (at, client) in clients.iter_mut().enumerate() {
        let line = format!("{at:04}");
        let mut rest = line.as_bytes();
        until(world, |_| {
            push(client, &mut rest);
            rest.is_empty()
        });
    }
    let mut answered = 0;
    until(world, |world| {
        for token in shard.turn(world) {
            let data = shard.story(token).data.clone();
            if data.len() == 4 {
                let _ = world.driver(0).send(token, data);
                answered += 1;
            }
        }
        answered == CONNS
    });
    for (at, client) in clients.iter_mut().enumerate() {
        let mut heard = Vec::new();
        until(world, |world| {
            if client.read(&mut heard) == Heard::Nothing {
                shard.turn(world);
            }
            heard.len() == 4
        });
        assert_eq!(heard, format!("{at:04}").as_bytes());
    }
    drop(clients);
    until(world, |world| {
        shard.turn(world);
        shard.stories.values().all(|story| story.closed == [Closed::Peer])
    });
}
