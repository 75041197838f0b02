//! NATS JetStream and its object store.
