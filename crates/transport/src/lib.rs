//! from socket to authenticated stream
