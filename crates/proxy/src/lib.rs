//! the life of one connection or request from accept to access log
