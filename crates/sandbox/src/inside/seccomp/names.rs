//! Names of system calls for x86-64: what a profile may name beyond the platform's own list.

use super::list::ALLOWED;

/// Calls that the platform does not allow as they are: (number, name), ascending.
#[rustfmt::skip]
const OTHERS: [(u32, &str); 85] = [
    (16, "ioctl"), (41, "socket"), (53, "socketpair"), (56, "clone"), (103, "syslog"), (133, "mknod"), (134, "uselib"), (135, "personality"),
    (136, "ustat"), (139, "sysfs"), (153, "vhangup"), (155, "pivot_root"), (156, "_sysctl"), (161, "chroot"),
    (163, "acct"), (164, "settimeofday"), (165, "mount"), (166, "umount2"), (167, "swapon"), (168, "swapoff"),
    (169, "reboot"), (170, "sethostname"), (171, "setdomainname"), (172, "iopl"), (173, "ioperm"),
    (174, "create_module"), (175, "init_module"), (176, "delete_module"), (177, "get_kernel_syms"),
    (178, "query_module"), (179, "quotactl"), (180, "nfsservctl"), (181, "getpmsg"), (182, "putpmsg"),
    (183, "afs_syscall"), (184, "tuxcall"), (185, "security"), (212, "lookup_dcookie"), (227, "clock_settime"),
    (236, "vserver"), (237, "mbind"), (238, "set_mempolicy"), (239, "get_mempolicy"), (246, "kexec_load"),
    (248, "add_key"), (249, "request_key"), (250, "keyctl"), (256, "migrate_pages"), (259, "mknodat"), (272, "unshare"),
    (279, "move_pages"), (298, "perf_event_open"), (300, "fanotify_init"), (303, "name_to_handle_at"),
    (304, "open_by_handle_at"), (308, "setns"), (310, "process_vm_readv"), (311, "process_vm_writev"), (312, "kcmp"),
    (313, "finit_module"), (320, "kexec_file_load"), (321, "bpf"), (323, "userfaultfd"), (336, "uprobe"),
    (425, "io_uring_setup"), (426, "io_uring_enter"), (427, "io_uring_register"), (428, "open_tree"),
    (429, "move_mount"), (430, "fsopen"), (431, "fsconfig"), (432, "fsmount"), (433, "fspick"), (435, "clone3"),
    (438, "pidfd_getfd"), (440, "process_madvise"), (442, "mount_setattr"), (443, "quotactl_fd"),
    (450, "set_mempolicy_home_node"), (459, "lsm_get_self_attr"), (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"), (467, "open_tree_attr"), (468, "file_getattr"), (469, "file_setattr"),
];

/// The number of the call `name`, if this architecture has one of that name.
pub fn number(name: &str) -> Option<u32> {
    let all = ALLOWED.iter().chain(&OTHERS);
    all.into_iter()
        .find(|(_, known)| *known == name)
        .map(|&(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::seccomp::list::NEWEST;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(number("read"), Some(libc::SYS_read as u32));
        assert_eq!(number("clone3"), Some(libc::SYS_clone3 as u32));
        assert_eq!(number("mount"), Some(libc::SYS_mount as u32));
        assert_eq!(number("openat3"), None);
    }

    #[test]
    fn no_number_stands_twice() {
        let mut numbers: Vec<u32> = ALLOWED.iter().chain(&OTHERS).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(numbers.last(), Some(&NEWEST));
    }
}
