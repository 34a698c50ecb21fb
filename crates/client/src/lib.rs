//! typed client of control
