//! Why a piece of work ended: what was decided about it, and what its process says. Pure.

use model::work::Cause;
use sandbox::Exit;

/// The cause, from what the platform decided before the end (if anything) and how the process ended (if that is known).
#[must_use]
pub(crate) fn cause(decided: Option<Cause>, exit: Option<&Exit>) -> Cause {
    if let Some(decided) = decided {
        return decided;
    }
    let Some(exit) = exit else {
        // Nobody but the host could have ended it without a trace.
        return Cause::CellLost;
    };
    let cause = ended(exit);
    match &exit.sidecar {
        Some(name) => Cause::Sidecar {
            name: name.clone(),
            why: Box::new(cause),
        },
        None => cause,
    }
}

/// How the process ended, whichever it was.
fn ended(exit: &Exit) -> Cause {
    if let Some(oom) = exit.oom {
        return Cause::OutOfMemory {
            limit_bytes: oom.limit_bytes,
            peak_bytes: oom.peak_bytes,
        };
    }
    match (exit.signal, exit.code) {
        (Some(signal), _) => Cause::Signalled { signal },
        (None, code) => Cause::Exited {
            code: code.unwrap_or(-1),
        },
    }
}

/// What the log says at the end, as Cloud Foundry has it.
#[must_use]
pub(crate) fn last_line(cause: &Cause, exit: Option<&Exit>) -> String {
    let status = exit.map(|exit| exit.code.unwrap_or_else(|| 128 + exit.signal.unwrap_or(0)));
    let own = match cause {
        Cause::Sidecar { why, .. } => why,
        other => other,
    };
    let text = match (own, status) {
        (Cause::OutOfMemory { .. }, _) => "Exit status 137 (out of memory)".to_owned(),
        (Cause::Stopped { killed: true }, Some(status)) => {
            format!("Exit status {status} (exceeded graceful shutdown interval)")
        }
        (Cause::Exited { .. } | Cause::Signalled { .. } | Cause::Stopped { .. }, Some(status)) => {
            format!("Exit status {status}")
        }
        (cause, _) => cause.to_string(),
    };
    let text = match exit.and_then(|exit| exit.sidecar.as_deref()) {
        Some(sidecar) => format!("{text} of the sidecar {sidecar}, and the instance with it"),
        None => text,
    };
    match exit.map_or(0, |exit| exit.pids_refused) {
        0 => text,
        n => format!("{text}; {n} new processes were refused at the limit of processes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::Oom;

    fn exit(code: Option<i32>, signal: Option<i32>, oom: bool) -> Exit {
        Exit {
            code,
            signal,
            oom: oom.then_some(Oom {
                limit_bytes: 64,
                peak_bytes: 63,
            }),
            started_ns: 0,
            ended_ns: 1,
            pids_refused: 0,
            sidecar: None,
        }
    }

    #[test]
    fn what_was_decided_is_the_cause_else_what_happened() {
        let stopped = Cause::Stopped { killed: false };
        let killed = exit(None, Some(9), true);
        assert_eq!(cause(Some(stopped.clone()), Some(&killed)), stopped);
        assert_eq!(
            cause(None, Some(&killed)),
            Cause::OutOfMemory {
                limit_bytes: 64,
                peak_bytes: 63
            }
        );
        assert_eq!(
            cause(None, Some(&exit(None, Some(11), false))),
            Cause::Signalled { signal: 11 }
        );
        assert_eq!(
            cause(None, Some(&exit(Some(3), None, false))),
            Cause::Exited { code: 3 }
        );
        assert_eq!(cause(None, None), Cause::CellLost);
    }

    #[test]
    fn the_log_ends_as_cloud_foundry_ends_it() {
        let line = |cause: Cause, exit: Exit| last_line(&cause, Some(&exit));
        assert_eq!(
            line(Cause::Exited { code: 1 }, exit(Some(1), None, false)),
            "Exit status 1"
        );
        assert_eq!(
            line(Cause::Signalled { signal: 11 }, exit(None, Some(11), false)),
            "Exit status 139"
        );
        assert_eq!(
            line(Cause::Stopped { killed: true }, exit(None, Some(9), false)),
            "Exit status 137 (exceeded graceful shutdown interval)"
        );
        let mut beside = exit(None, Some(9), true);
        beside.sidecar = Some("agent".to_owned());
        let told = cause(None, Some(&beside));
        assert!(matches!(&told, Cause::Sidecar { name, why } if name == "agent"
            && matches!(**why, Cause::OutOfMemory { limit_bytes: 64, .. })));
        assert_eq!(
            line(told, beside),
            "Exit status 137 (out of memory) of the sidecar agent, and the instance with it"
        );
        let oom = cause(None, Some(&exit(None, Some(9), true)));
        assert_eq!(line(oom, exit(None, Some(9), true)), "Exit status 137 (out of memory)");
        let mut forked = exit(Some(1), None, false);
        forked.pids_refused = 5;
        assert!(line(Cause::Exited { code: 1 }, forked).contains("5 new processes were refused"));
        assert_eq!(last_line(&Cause::CellLost, None), "The cell it ran on was lost");
    }
}
