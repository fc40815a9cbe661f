//! Where the checks take place: drivers of two shards, and clients that can reach them.

use myriad::io::Driver;
use myriad::io::ready::Ready;
use myriad::io::sim::{ClientEnd, Faults, Heard, Sim, SimNet};
use myriad::io::socket::bind_group;
#[cfg(target_os = "linux")]
use myriad::io::uring::Uring;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub(crate) trait World {
    type Driver: Driver;
    type Client: Client;
    /// Turns after which a check gives up waiting.
    const PATIENCE: usize;
    fn driver(&mut self, shard: usize) -> &mut Self::Driver;
    fn connect(&mut self, shard: usize) -> Self::Client;
}

pub(crate) trait Client {
    /// Bytes taken, possibly 0; `None` if the connection is gone.
    fn write(&mut self, bytes: &[u8]) -> Option<usize>;
    fn read(&mut self, out: &mut Vec<u8>) -> Heard;
    fn finish(&mut self);
    fn reset(self);
}

/// Drivers over loopback sockets.
pub(crate) struct SocketWorld<D> {
    pub(crate) drivers: Vec<D>,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl<D> SocketWorld<D> {
    pub(crate) fn new(driver: impl Fn(TcpListener) -> D) -> Self {
        let mut world = Self { drivers: Vec::new(), addresses: Vec::new() };
        for _ in 0..2 {
            let listener = bind_group("127.0.0.1:0".parse().unwrap(), 1, 4096).unwrap().remove(0);
            world.addresses.push(listener.local_addr().unwrap());
            world.drivers.push(driver(listener));
        }
        world
    }
}

pub(crate) fn ready_world(receive_bytes: usize) -> SocketWorld<Ready> {
    SocketWorld::new(|listener| Ready::new(listener, 4096, receive_bytes).unwrap())
}

#[cfg(target_os = "linux")]
pub(crate) fn uring_world(receive_bytes: usize, slots_per_ring: u32) -> SocketWorld<Uring> {
    SocketWorld::new(|listener| Uring::new(listener, 4096, receive_bytes, slots_per_ring).unwrap())
}

impl<D: Driver<Socket = TcpStream>> World for SocketWorld<D> {
    type Driver = D;
    type Client = TcpStream;
    const PATIENCE: usize = 4_000;

    fn driver(&mut self, shard: usize) -> &mut D {
        &mut self.drivers[shard]
    }

    fn connect(&mut self, shard: usize) -> TcpStream {
        let client = TcpStream::connect(self.addresses[shard]).unwrap();
        client.set_nonblocking(true).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }
}

impl Client for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match Write::write(self, bytes) {
            Ok(taken) => Some(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Heard {
        let mut buffer = [0; 16 * 1024];
        match Read::read(self, &mut buffer) {
            Ok(0) => Heard::End,
            Ok(bytes) => {
                out.extend_from_slice(&buffer[..bytes]);
                Heard::Bytes(bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            Err(_) => Heard::Reset,
        }
    }

    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        SockRef::from(&self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

pub(crate) struct SimWorld {
    pub(crate) net: SimNet,
    pub(crate) drivers: Vec<Sim>,
}

pub(crate) fn sim_world(seed: u64, faults: Faults, receive_bytes: usize) -> SimWorld {
    let net = SimNet::new(seed, faults);
    let drivers = (0..2).map(|shard| net.driver(shard, 4096, receive_bytes)).collect();
    SimWorld { net, drivers }
}

impl World for SimWorld {
    type Driver = Sim;
    type Client = ClientEnd;
    const PATIENCE: usize = 200_000;

    fn driver(&mut self, shard: usize) -> &mut Sim {
        &mut self.drivers[shard]
    }

    fn connect(&mut self, shard: usize) -> ClientEnd {
        self.net.connect(shard)
    }
}

impl Client for ClientEnd {
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        ClientEnd::write(self, bytes).ok()
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Heard {
        ClientEnd::read(self, out)
    }

    fn finish(&mut self) {
        ClientEnd::finish(self);
    }

    fn reset(mut self) {
        ClientEnd::reset(&mut self);
    }
}
