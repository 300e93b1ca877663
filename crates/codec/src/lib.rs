//! Checksums for Strake. Knows nothing of devices or of Node.js.

pub mod crc32c;
