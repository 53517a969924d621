//! The bodies of the fuzz targets; what makes them binaries is in `fuzz_targets`.

pub mod decode;
