//! Sessions that stay with an instance: where an app sets one of its session cookies, the router adds `__VCAP_ID__`,
//! which names the instance; a request that brings both goes there again. Pure.

use http::header::{self, HeaderMap, HeaderValue};
use model::id::WorkId;

/// The router's cookie.
pub const VCAP_ID: &str = "__VCAP_ID__";

/// Attributes of the app's cookie that ours takes over: it has to live as long and reach as far.
const COPIED: [&str; 5] = ["expires", "max-age", "samesite", "secure", "partitioned"];

/// The instance that a request's session is with.
pub fn wanted(headers: &HeaderMap, names: &[String]) -> Option<WorkId> {
    let mut instance = None;
    let mut session = false;
    let values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for pair in values.flat_map(|value| value.split(';')) {
        let Some((name, value)) = pair.trim().split_once('=') else {
            continue;
        };
        if name == VCAP_ID {
            instance = value.trim_matches('"').parse().ok().map(WorkId);
        } else {
            session |= names.iter().any(|known| known == name);
        }
    }
    instance.filter(|_| session)
}

/// Adds our cookie to a response of `served`, where the app began a session or another instance had to take over from
/// `wanted`. An app that sets the cookie itself is left alone.
pub fn mark(headers: &mut HeaderMap, names: &[String], wanted: Option<WorkId>, served: WorkId, path: &str, tls: bool) {
    // Most responses set no cookie.
    if wanted.is_none() && !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    let mut session = None;
    for cookie in headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
    {
        let name = cookie.split(['=', ';']).next().unwrap_or_default().trim();
        if name == VCAP_ID {
            return;
        }
        if names.iter().any(|known| known == name) {
            session = Some(cookie);
        }
    }
    let moved = wanted.is_some_and(|wanted| wanted != served);
    if session.is_none() && !moved {
        return;
    }
    let path = if path.is_empty() { "/" } else { path };
    let mut cookie = format!("{VCAP_ID}={served}; Path={path}; HttpOnly");
    match session {
        Some(session) => {
            for attribute in session.split(';').skip(1).map(str::trim) {
                let name = attribute.split('=').next().unwrap_or_default().trim();
                if COPIED.iter().any(|copied| name.eq_ignore_ascii_case(copied)) {
                    cookie.push_str("; ");
                    cookie.push_str(attribute);
                }
            }
        }
        None if tls => cookie.push_str("; Secure"),
        None => {}
    }
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn work(n: u128) -> WorkId {
        WorkId(Uuid::from_u128(n))
    }

    fn names() -> Vec<String> {
        vec!["JSESSIONID".to_owned()]
    }

    fn request(cookie: &str) -> Option<WorkId> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().expect("sound"));
        wanted(&headers, &names())
    }

    fn response(cookies: &[&str], wanted: Option<WorkId>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().expect("sound"));
        }
        mark(&mut headers, &names(), wanted, work(2), "/shop", true);
        let all = headers.get_all(header::SET_COOKIE).iter();
        all.skip(cookies.len())
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    }

    #[test]
    fn a_session_cookie_and_ours_together_name_the_instance() {
        let id = work(2);
        assert_eq!(request(&format!("a=b; JSESSIONID=x; {VCAP_ID}={id}")), Some(id));
        assert_eq!(request(&format!("{VCAP_ID}=\"{id}\";JSESSIONID=x")), Some(id));
        assert_eq!(request(&format!("{VCAP_ID}={id}")), None);
        assert_eq!(request(&format!("jsessionid=x; {VCAP_ID}={id}")), None);
        assert_eq!(request(&format!("JSESSIONID=x; {VCAP_ID}=other")), None);
    }

    #[test]
    fn our_cookie_comes_with_the_apps_and_lives_as_long() {
        let ours = format!("{VCAP_ID}={}; Path=/shop; HttpOnly", work(2));
        assert_eq!(response(&["a=b"], None), Vec::<String>::new());
        assert_eq!(
            response(&["JSESSIONID=x; Path=/; HttpOnly"], None),
            std::slice::from_ref(&ours)
        );
        assert_eq!(
            response(
                &["JSESSIONID=x; secure; Max-Age=5; SameSite=Strict; Domain=a.test"],
                None
            ),
            [format!("{ours}; secure; Max-Age=5; SameSite=Strict")]
        );
        assert_eq!(
            response(&["JSESSIONID=x", &format!("{VCAP_ID}=mine")], None),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_session_whose_instance_is_gone_moves() {
        assert_eq!(response(&[], Some(work(2))), Vec::<String>::new());
        assert_eq!(
            response(&[], Some(work(1))),
            [format!("{VCAP_ID}={}; Path=/shop; HttpOnly; Secure", work(2))]
        );
    }
}
