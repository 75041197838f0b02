//! A TCP proxy between two parts of the system that can be slow, silent or cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Two parts with a proxy on the line between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Uploads and watchers on the one side, the gateway on the other.
    ClientsAndGateway,
    /// The services and NATS.
    ServicesAndBroker,
    /// ingest and query, and the database.
    ServicesAndDatabase,
}

/// What the line is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// As if there was no proxy.
    Clear,
    /// Every piece of data comes this much later.
    Slow(Duration),
    /// Connections stand, nothing comes through: a cable that was pulled.
    Silent,
    /// Connections are reset, new ones end at once.
    Cut,
}

#[derive(Debug)]
struct State {
    line: Mutex<(Line, Vec<TcpStream>)>,
    changed: Condvar,
}

/// Listens on a free port of the loopback and passes everything on. It lives as long as the process: its threads end with
/// their connections.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// A clear line to a port of the loopback.
    ///
    /// # Panics
    /// When no port is free.
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

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes the line like this from now on.
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
        // A server that is gone closes the near end, too.
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone()) else {
                return;
            };
            state.1.push(kept);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pass_on(from, to));
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            self.wait();
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// Until the line lets data through.
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
