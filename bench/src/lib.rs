//! What the benchmarks share: workloads, measuring and reports.
