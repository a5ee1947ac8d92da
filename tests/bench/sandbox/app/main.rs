//! The app of the benchmark of sandboxes: says when it began, then ends or stays. Static, without a runtime of its
//! own before `main`, compiled by the benchmark itself. It does nothing else, so that only the way to it is measured.
#![no_main]

use std::ffi::{c_char, c_int, c_long, c_void};

const CLOCK_MONOTONIC: c_int = 1;
/// `stamp `, 20 digits and a newline.
const LINE: usize = 27;

#[repr(C)]
struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize;
    fn pause() -> c_int;
}

/// Without an argument it ends after its line; with any it stays until it is killed.
#[unsafe(no_mangle)]
extern "C" fn main(arguments: c_int, _: *const *const c_char) -> c_int {
    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the pointer is to a value of the C type of this target.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
    let line = line(time.seconds.cast_unsigned() * 1_000_000_000 + time.nanoseconds.cast_unsigned());
    // SAFETY: the pointer is to LINE bytes.
    let written = unsafe { write(1, line.as_ptr().cast(), LINE) };
    while arguments > 1 {
        // SAFETY: takes nothing.
        unsafe { pause() };
    }
    c_int::from(written != LINE.cast_signed())
}

fn line(mut nanoseconds: u64) -> [u8; LINE] {
    let mut line = *b"stamp 00000000000000000000\n";
    for digit in line[6..26].iter_mut().rev() {
        *digit = b'0' + (nanoseconds % 10) as u8;
        nanoseconds /= 10;
    }
    line
}
