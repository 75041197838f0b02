//! A TCP proxy between two parts of the system that delays, blocks or cuts connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The two parts that a proxy connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Clients and the gateway.
    ClientsAndGateway,
    /// The services and NATS.
    ServicesAndBroker,
    /// ingest, query and the database.
    ServicesAndDatabase,
}

/// State of the connections through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Forwards everything immediately.
    Clear,
    /// Forwards each piece of data after this delay.
    Slow(Duration),
    /// Connections stay open, nothing is forwarded: like a pulled cable.
    Silent,
    /// Connections are closed, new ones end immediately.
    Cut,
}

#[derive(Debug)]
struct State {
    line: Mutex<(Line, Vec<TcpStream>)>,
    changed: Condvar,
}

/// Listens on a free loopback port and forwards connections. It runs until the process ends.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// Starts a proxy for a loopback port.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State { line: Mutex::new((Line::Clear, Vec::new())), changed: Condvar::new() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                shared.connect(near, port);
            }
        });
        Proxy { address, state }
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the state of all connections.
    pub fn set(&self, line: Line) {
        let mut state = self.state.line.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = line;
        if line == Line::Cut {
            for stream in state.1.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.state.changed.notify_all();
    }
}

impl State {
    fn connect(self: &Arc<Self>, near: TcpStream, port: u16) {
        let mut state = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 == Line::Cut {
            return;
        }
        // If the server is not running, dropping `near` closes the connection.
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone()) else {
                return;
            };
            state.1.push(kept);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.forward(from, to));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            self.wait();
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// Waits until data may be forwarded.
    fn wait(&self) {
        let mut state = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 == Line::Silent {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let line = state.0;
        drop(state);
        if let Line::Slow(delay) = line {
            thread::sleep(delay);
        }
    }
}
