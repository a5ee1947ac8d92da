//! The terminal's modes: no echo while a password is typed, raw while a remote terminal is shown.
//!
//! Restored on drop, so also when the command ends by an error. Off Unix there is nothing to set.

#[cfg(unix)]
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

/// While it lives, what is typed is not shown.
pub struct NoEcho {
    #[cfg(unix)]
    saved: Option<Termios>,
}

impl NoEcho {
    /// Switches echo off, where standard input is a terminal.
    pub fn new() -> Self {
        #[cfg(unix)]
        {
            let saved = change(|modes| modes.local_modes.remove(LocalModes::ECHO));
            Self { saved }
        }
        #[cfg(not(unix))]
        Self {}
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        #[cfg(unix)]
        restore(self.saved.take());
    }
}

/// While it lives, each key goes to the program as it is typed.
pub struct Raw {
    #[cfg(unix)]
    saved: Option<Termios>,
}

impl Raw {
    /// Makes the terminal of standard input raw, where it is one.
    pub fn new() -> Self {
        #[cfg(unix)]
        {
            let saved = change(Termios::make_raw);
            Self { saved }
        }
        #[cfg(not(unix))]
        Self {}
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        #[cfg(unix)]
        restore(self.saved.take());
    }
}

#[cfg(unix)]
fn change(with: impl FnOnce(&mut Termios)) -> Option<Termios> {
    let stdin = std::io::stdin();
    let saved = termios::tcgetattr(&stdin).ok()?;
    let mut modes = saved.clone();
    with(&mut modes);
    termios::tcsetattr(&stdin, OptionalActions::Now, &modes).ok()?;
    Some(saved)
}

#[cfg(unix)]
fn restore(saved: Option<Termios>) {
    if let Some(saved) = saved {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &saved);
    }
}

/// Rows and columns of the terminal, where standard output is one.
pub fn size() -> Option<(u16, u16)> {
    #[cfg(unix)]
    {
        let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
        Some((size.ws_row, size.ws_col))
    }
    #[cfg(not(unix))]
    None
}
