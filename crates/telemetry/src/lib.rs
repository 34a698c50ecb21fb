//! counters, histograms and their encodings
