//! Servers that tests start: nats-server, alone and as a cluster, and a server of the MongoDB protocol.

mod cluster;
mod mongo;
mod nats;

pub use cluster::NatsCluster;
pub use mongo::MongoServer;
pub use nats::NatsServer;
