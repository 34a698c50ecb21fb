//! launcher: drivers, seal and its init, supervision, logs
