//! issues and rotates workload certificates
