//! store, registry, leases, snapshot computation, push, admin API
