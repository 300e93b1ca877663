//! Which device a path names: the same device has many names, by links, by other paths to its folder, and by other nodes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::open::{OpenError, made_by_system};

/// What device a path names.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The same for all names of a device: `block:number`, or `file:device:inode`.
    pub key: String,
    /// Whether the path is a link that [`crate::open::open_device`] refuses to follow.
    pub refused_link: bool,
}

/// Tells which device `path` names, whatever links it leads through, without opening it.
pub fn identify(path: &Path) -> Result<Identity, OpenError> {
    let error = |error: io::Error| OpenError::system(path, "find", &error);
    let link = fs::symlink_metadata(path).map_err(error)?.file_type().is_symlink();
    let metadata = fs::metadata(path).map_err(error)?;
    let block = metadata.file_type().is_block_device();
    let key = if block {
        format!("block:{}", metadata.rdev())
    } else {
        format!("file:{}:{}", metadata.dev(), metadata.ino())
    };
    Ok(Identity { key, refused_link: link && !(block && made_by_system(path)) })
}
