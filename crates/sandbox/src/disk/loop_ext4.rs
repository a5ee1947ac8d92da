//! The private layer as an ext4 image on a loop device: hard limits for bytes and files on
//! any host file system. Images are formatted once per size and copied sparsely.
//!
//! The loop device frees itself when the last mount of the image is gone, so nothing here
//! has to be undone but the deletion of the image.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rustix::fs::SeekFrom;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::{Disk, DiskPlan, Stocked};
use crate::error::Context;
use crate::{Error, Result};

/// Attempts to get a loop device while others take them too.
const LOOP_ATTEMPTS: u32 = 200;
const MKFS: [&str; 2] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"];
/// Pieces of an image that are read before it is mounted, and how much of each.
const READ_AHEAD: usize = 4;
const READ_AHEAD_BYTES: u64 = 64 << 10;
/// Name of a layer's image in its sandbox's folder.
pub const IMAGE: &str = "disk.img";
const INODE_BYTES: u64 = 256;

/// See the module.
#[derive(Debug)]
pub struct LoopExt4 {
    templates: PathBuf,
    mkfs: PathBuf,
    formatting: Mutex<()>,
}

impl LoopExt4 {
    /// With formatted templates in the folder `templates`; the reason if this host cannot.
    pub fn probe(templates: &Path) -> std::result::Result<LoopExt4, String> {
        if !Path::new("/dev/loop-control").exists() {
            return Err("there are no loop devices (/dev/loop-control)".to_owned());
        }
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.trim() == "ext4") {
            return Err("the kernel has no ext4".to_owned());
        }
        let mkfs = MKFS.iter().map(PathBuf::from).find(|p| p.exists());
        let mkfs = mkfs.ok_or("mkfs.ext4 is missing (Debian package e2fsprogs)")?;
        Ok(LoopExt4 {
            templates: templates.to_owned(),
            mkfs,
            formatting: Mutex::new(()),
        })
    }

    /// The template for a size, formatted on first use.
    fn template(&self, bytes: u64, inodes: u64) -> Result<PathBuf> {
        let path = self.templates.join(format!("ext4-{bytes}-{inodes}.img"));
        let _one_at_a_time = self
            .formatting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if path.exists() {
            return Ok(path);
        }
        let seed = self.templates.join("seed");
        for folder in ["upper", "work"] {
            let folder = seed.join(folder);
            std::fs::create_dir_all(&folder).at("make folder", folder)?;
        }
        let draft = path.with_extension("new");
        let file = File::create(&draft).at("make image", &draft)?;
        file.set_len(image_bytes(bytes, inodes)).at("size image", &draft)?;
        self.format(&draft, inodes, &seed)?;
        std::fs::rename(&draft, &path).at("name image", &path)?;
        Ok(path)
    }

    fn format(&self, image: &Path, inodes: u64, seed: &Path) -> Result<()> {
        let output = Command::new(&self.mkfs)
            .args(["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal,^resize_inode"])
            .args(["-I", &INODE_BYTES.to_string(), "-N", &inodes.max(64).to_string()])
            .args(["-E", "lazy_itable_init=1,root_owner=0:0"])
            .arg("-d")
            .arg(seed)
            .arg(image)
            .output()
            .at("run", &self.mkfs)?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text.lines().next().unwrap_or("no message").to_owned();
        Err(Error::File {
            operation: "format image",
            path: image.to_owned(),
            source: io::Error::other(reason),
        })
    }
}

/// Size of an image in which at least `bytes` can be used, besides ext4's own tables and what
/// it holds back (a fiftieth, at most 16 MiB).
fn image_bytes(bytes: u64, inodes: u64) -> u64 {
    let tables = inodes.max(64) * INODE_BYTES;
    let held_back = (bytes / 48).min(17 << 20);
    let groups = (bytes + tables).div_ceil(128 << 20) * (64 << 10);
    (bytes + held_back + bytes / 1024 + tables + groups + (256 << 10)).next_multiple_of(4096)
}

impl Disk for LoopExt4 {
    fn name(&self) -> &'static str {
        "loop-ext4"
    }

    fn prepare(&self, dir: &Path, bytes: u64, inodes: u64) -> Result<DiskPlan> {
        let template = self.template(bytes, inodes)?;
        let image = dir.join(IMAGE);
        copy_sparse(&template, &image).at("copy image", &image)?;
        Ok(DiskPlan::LoopExt4 { image })
    }

    fn can_stock(&self) -> bool {
        true
    }

    fn stock(&self, image: &Path, bytes: u64, inodes: u64) -> Result<Stocked> {
        let template = self.template(bytes, inodes)?;
        // A loop device waits until the disk has all of its file: most of the time that making a layer takes.
        let made = copy_sparse(&template, image).and_then(|file| file.sync_all());
        let made = made.and_then(|()| Attached::new(image));
        let device = made.inspect_err(|_| drop(std::fs::remove_file(image)));
        Ok(Stocked {
            image: image.to_owned(),
            device: device.at("make image", image)?,
        })
    }
}

/// Copies only what is not a hole.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<File> {
    let source = File::open(from)?;
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let hole = rustix::fs::seek(&source, SeekFrom::Hole(data))?;
        let (mut read, mut write) = (data, data);
        while read < hole {
            let wanted = (hole - read) as usize;
            if rustix::fs::copy_file_range(&source, Some(&mut read), &target, Some(&mut write), wanted)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = hole;
    }
    Ok(target)
}

/// An image on a loop device, which frees itself with this, or later with the last mount of it.
#[derive(Debug)]
pub struct Attached {
    path: String,
    device: File,
}

impl Attached {
    /// Finds a device for `image`.
    pub fn new(image: &Path) -> io::Result<Attached> {
        let file = OpenOptions::new().read(true).write(true).open(image)?;
        let (path, device) = attach(&file)?;
        read_ahead(&file, &device);
        Ok(Attached { path, device })
    }

    /// Mounts the image, attached nowhere yet.
    pub fn mount(self) -> io::Result<OwnedFd> {
        let fs = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", &self.path)?;
        fsconfig_set_flag(&fs, "noinit_itable")?;
        // Nothing here outlives the host's next start, so no write has to wait until the disk has it.
        fsconfig_set_flag(&fs, "nobarrier")?;
        fsconfig_create(&fs)?;
        let flags =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOATIME;
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        // The mount holds it from here on.
        drop(self.device);
        Ok(mount)
    }
}

/// Has the kernel read at once what is in a new image, instead of block by block as it is mounted: each of those waits
/// for a worker. An image with more in it has been used, and is in memory.
fn read_ahead(image: &File, device: &File) {
    let mut at = 0;
    for _ in 0..READ_AHEAD {
        let Ok(data) = rustix::fs::seek(image, SeekFrom::Data(at)) else {
            return;
        };
        let Ok(hole) = rustix::fs::seek(image, SeekFrom::Hole(data)) else {
            return;
        };
        let length = std::num::NonZeroU64::new((hole - data).min(READ_AHEAD_BYTES));
        let _ = rustix::fs::fadvise(device, data, length, rustix::fs::Advice::WillNeed);
        at = hole;
    }
}

/// Whether a loop device has `image` open.
pub fn is_attached(image: &Path) -> bool {
    let Ok(devices) = std::fs::read_dir("/sys/block") else {
        return false;
    };
    devices
        .flatten()
        .filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .any(|file| Path::new(file.trim_end()) == image)
}

/// A loop device over `image`: its path, and its descriptor to hold until it is mounted.
fn attach(image: &File) -> io::Result<(String, File)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..LOOP_ATTEMPTS {
        let path = format!("/dev/loop{}", crate::sys::loop_get_free(control.as_fd())?);
        let device = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(device) => device,
            // Taken and being torn down by somebody else.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::EBUSY | libc::ENOENT)) => {
                last = e;
                std::thread::yield_now();
                continue;
            }
            Err(e) => return Err(e),
        };
        match crate::sys::loop_configure(device.as_fd(), image.as_fd()) {
            Ok(()) => return Ok((path, device)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::ENXIO)) => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_sparse_and_mounts_with_the_space_promised() {
        for (bytes, inodes) in [(8 << 20, 512), (64 << 20, 4096), (1 << 30, 65_536), (8 << 30, 262_144)] {
            let dir = tempfile::tempdir().unwrap();
            let disk = LoopExt4::probe(dir.path()).unwrap();
            let DiskPlan::LoopExt4 { image } = disk.prepare(dir.path(), bytes, inodes).unwrap() else {
                panic!()
            };
            has_what_was_promised(&image, bytes, inodes);
        }
    }

    fn has_what_was_promised(image: &Path, bytes: u64, inodes: u64) {
        let mount = Attached::new(image).unwrap().mount().unwrap();
        let fs = rustix::fs::fstatfs(&mount).unwrap();
        let free = fs.f_bavail * fs.f_bsize as u64;
        let slack = (1 << 20) + bytes / 64;
        assert!((bytes..bytes + slack).contains(&free), "{bytes}: {free}");
        assert!(
            (inodes - 32..inodes + inodes / 8 + 1024).contains(&fs.f_ffree),
            "{inodes}: {}",
            fs.f_ffree
        );
        use std::os::unix::fs::MetadataExt;
        assert!(std::fs::metadata(image).unwrap().blocks() * 512 < 8 << 20);
        assert!(is_attached(&std::fs::canonicalize(image).unwrap()));
        assert!(rustix::fs::openat(&mount, "upper", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).is_ok());
    }

    #[test]
    fn an_image_in_stock_becomes_the_layer_of_a_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let disk = LoopExt4::probe(dir.path()).unwrap();
        let (stocked, sandbox) = (dir.path().join("stocked"), dir.path().join("sandbox"));
        std::fs::create_dir(&sandbox).unwrap();
        let other = disk.stock(&dir.path().join("other"), 8 << 20, 512).unwrap();
        other.discard().unwrap();
        assert!(!dir.path().join("other").exists(), "what nobody wanted is gone");
        let in_stock = disk.stock(&stocked, 8 << 20, 512).unwrap();
        let layer = crate::disk::Layer::of_stock(in_stock, &sandbox).unwrap();
        assert!(!stocked.exists());
        assert!(!layer.plan.can_return(), "it is mounted");
        assert_eq!(layer.plan.image(), Some(sandbox.join(IMAGE).as_path()));
        let fs = rustix::fs::fstatfs(&layer.mount).unwrap();
        assert!(fs.f_bavail * fs.f_bsize as u64 >= 8 << 20);
    }

    #[test]
    fn a_spoilt_image_in_stock_is_an_error_and_gone() {
        let dir = tempfile::tempdir().unwrap();
        let spoilt = dir.path().join("spoilt");
        std::fs::write(&spoilt, vec![0; 1 << 20]).unwrap();
        let stocked = Stocked {
            image: spoilt.clone(),
            device: Attached::new(&spoilt).unwrap(),
        };
        crate::disk::Layer::of_stock(stocked, dir.path()).unwrap_err();
        assert!(!spoilt.exists() && !dir.path().join(IMAGE).exists());
    }
}
