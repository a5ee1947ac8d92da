//! Requests that name the instance they want: `X-Cf-App-Instance: <app>:<index>` and
//! `X-Cf-Process-Instance: <process>[:<index>]`. Pure.

use super::refusal::Refusal;
use crate::endpoint::Endpoint;
use http::header::{HeaderMap, HeaderName};
use model::id::{AppId, ProcessId};
use uuid::Uuid;

const APP_INSTANCE: HeaderName = HeaderName::from_static("x-cf-app-instance");
const PROCESS_INSTANCE: HeaderName = HeaderName::from_static("x-cf-process-instance");

/// What a request asks of the instance that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One instance of an app.
    App(AppId, u32),
    /// An instance of a process; any, or one.
    Process(ProcessId, Option<u32>),
}

impl Target {
    /// What the fields ask for, if they are there.
    ///
    /// # Errors
    /// Where a field can't be read.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        if let Some(value) = headers.get(&APP_INSTANCE) {
            let (app, index) = value.to_str().ok().and_then(split).ok_or(Refusal::AppInstanceHeader)?;
            let index = index.ok_or(Refusal::AppInstanceHeader)?;
            return Ok(Some(Self::App(AppId(app), index)));
        }
        let Some(value) = headers.get(&PROCESS_INSTANCE) else {
            return Ok(None);
        };
        let (process, index) = value
            .to_str()
            .ok()
            .and_then(split)
            .ok_or(Refusal::ProcessInstanceHeader)?;
        Ok(Some(Self::Process(ProcessId(process), index)))
    }

    /// Whether this instance is meant.
    pub fn fits(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::App(app, index) => endpoint.app == app && endpoint.index == index,
            Self::Process(process, index) => {
                endpoint.process == Some(process) && index.is_none_or(|index| endpoint.index == index)
            }
        }
    }
}

/// A GUID, and the number behind a colon.
fn split(text: &str) -> Option<(Uuid, Option<u32>)> {
    let (guid, index) = match text.split_once(':') {
        Some((guid, index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => (guid, Some(index.parse().ok()?)),
        Some(_) => return None,
        None => (text, None),
    };
    // Only the hyphenated form is one of Cloud Foundry's.
    (guid.len() == 36).then(|| guid.parse().ok()).flatten().zip(Some(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "00000000-0000-0000-0000-000000000007";

    fn target(name: &'static str, value: &str) -> Result<Option<Target>, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("sound"));
        Target::of(&headers)
    }

    #[test]
    fn instance_headers_are_read_or_refused() {
        let id = Uuid::from_u128(7);
        assert_eq!(Target::of(&HeaderMap::new()), Ok(None));
        let app = |value: &str| target("x-cf-app-instance", value);
        assert_eq!(app(&format!("{GUID}:2")), Ok(Some(Target::App(AppId(id), 2))));
        for bad in [
            "",
            ":",
            "x:1",
            GUID,
            &format!("{GUID}:"),
            &format!("{GUID}:-1"),
            &format!("{GUID}:1:2"),
            &format!("{GUID}:+1"),
        ] {
            assert_eq!(app(bad), Err(Refusal::AppInstanceHeader), "{bad}");
        }
        let process = |value: &str| target("x-cf-process-instance", value);
        assert_eq!(process(GUID), Ok(Some(Target::Process(ProcessId(id), None))));
        assert_eq!(
            process(&format!("{GUID}:0")),
            Ok(Some(Target::Process(ProcessId(id), Some(0))))
        );
        assert_eq!(process("web:0"), Err(Refusal::ProcessInstanceHeader));
    }

    #[test]
    fn a_target_fits_its_instance_alone() {
        let endpoint = crate::endpoint::tests::endpoint(2);
        let (app, process) = (endpoint.app, ProcessId(Uuid::from_u128(70)));
        assert!(Target::App(app, 2).fits(&endpoint));
        assert!(!Target::App(app, 1).fits(&endpoint));
        assert!(!Target::App(AppId(Uuid::nil()), 2).fits(&endpoint));
        assert!(Target::Process(process, None).fits(&endpoint));
        assert!(Target::Process(process, Some(2)).fits(&endpoint));
        assert!(!Target::Process(process, Some(3)).fits(&endpoint));
    }
}
