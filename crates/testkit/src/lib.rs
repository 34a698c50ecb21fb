//! What tests share: a load that does not forgive. It refuses to know our own engines, so that it can judge them.

pub mod load;
