//! Logging in, and choosing where to work.

use super::{Cx, missing};
use crate::client::Client;
use crate::client::session::Grant;
use crate::client::wire::Named;
use crate::config::file::{Context, UserFile};
use crate::config::{Config, DEV_CONTEXT};
use crate::errors::Error;
use api::v3::oauth::DeviceAuthorization;
use model::Secret;

/// What a login came to.
pub struct LoggedIn {
    pub context: String,
    pub api: String,
    pub user: String,
    pub org: Option<String>,
    pub space: Option<String>,
}

/// What somebody logs in with.
pub enum Proof {
    /// Name and password.
    Password(String, Secret),
    /// A one-time code.
    Passcode(Secret),
    /// Whatever there is on another device.
    Device(DeviceAuthorization),
}

/// A log-in that has begun: where, and with what is known of it.
pub struct Begun {
    config: Config,
    pub client: Client,
}

/// Begins a log-in at `api`, or at the present context's.
///
/// # Errors
/// Where it is not known where that is.
pub fn begin(cx: &Cx, api: Option<&str>) -> Result<Begun, Error> {
    let config = login_config(cx, api)?;
    let client = Client::new(&config, cx.ui.clone())?;
    Ok(Begun { config, client })
}

/// Logs in, and makes that the context in use.
///
/// # Errors
/// Where the server can't be reached or refuses.
pub async fn login(cx: &Cx, begun: Begun, proof: &Proof) -> Result<LoggedIn, Error> {
    let Begun { mut config, client } = begun;
    let name = cx.flags.context.clone().unwrap_or_else(|| default_name(&config));
    let tokens = match proof {
        Proof::Password(user, password) => client.grant(&Grant::Password(user, password)).await?,
        Proof::Passcode(code) => client.grant(&Grant::Passcode(code)).await?,
        Proof::Device(begun) => client.device_wait(begun).await?,
    };
    client.logged_in(&tokens).await;
    let user = match proof {
        Proof::Password(user, _) => user.clone(),
        Proof::Passcode(_) | Proof::Device(_) => client.user_name().await.unwrap_or_default(),
    };
    let mut context = config.context()?.clone();
    context.username = Some(user.clone());
    context.access_token = Some(tokens.access_token);
    context.refresh_token = tokens.refresh_token;
    context.dev_login = None;
    choose_only(&client, &mut context).await?;
    let result = LoggedIn {
        context: name.clone(),
        api: context.api.clone(),
        user,
        org: context.org.clone(),
        space: context.space.clone(),
    };
    config.context = Some(context.clone());
    UserFile::update(&config.user_path, |file| {
        file.contexts.insert(name.clone(), context);
        file.current = Some(name);
    })?;
    Ok(result)
}

/// Settings to log in with: a context that is asked for need not be there yet.
fn login_config(cx: &Cx, api: Option<&str>) -> Result<Config, Error> {
    let flags = crate::config::Flags {
        context: None,
        ..(*cx.flags).clone()
    };
    let mut config = match cx.config() {
        Err(Error::NotFound { kind: "context", .. }) => Config::load(&cx.env, &flags)?,
        other => other?,
    };
    config.token = None;
    if let Some(api) = api {
        let api = with_scheme(api);
        let known = config.context.take().filter(|context| context.api == api);
        config.context = Some(known.unwrap_or_else(|| Context::new(&api)));
    }
    let context = config.context.as_mut().ok_or_else(|| Error::Usage {
        message: "it is not known where to log in".into(),
        hint: Some("give the API's address: `paas login https://api.example.com`".into()),
    })?;
    if let Some(org) = &cx.flags.org {
        context.org = Some(org.clone());
    }
    if let Some(space) = &cx.flags.space {
        context.space = Some(space.clone());
    }
    context.access_token = None;
    context.refresh_token = None;
    config.credentials = None;
    config.persistent = false;
    Ok(config)
}

/// A bare name is an address by TLS.
fn with_scheme(api: &str) -> String {
    let api = api.trim_end_matches('/');
    if api.contains("://") {
        api.to_owned()
    } else {
        format!("https://{api}")
    }
}

/// The context that has this address already, or the address's host.
fn default_name(config: &Config) -> String {
    let api = config.context.as_ref().map_or("", |context| context.api.as_str());
    let known = UserFile::read(&config.user_path)
        .unwrap_or_default()
        .contexts
        .into_iter()
        .find_map(|(name, context)| (context.api == api && name != DEV_CONTEXT).then_some(name));
    known.unwrap_or_else(|| {
        let url = url::Url::parse(api).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or("default");
        host.strip_prefix("api.").unwrap_or(host).to_owned()
    })
}

/// Where there is but one organisation, or space in it, that one is targeted.
async fn choose_only(client: &Client, context: &mut Context) -> Result<(), Error> {
    let orgs = client.orgs().await?;
    let org = match &context.org {
        Some(name) => orgs.iter().find(|org| org.name == *name),
        None => only(&orgs),
    };
    context.org = org.map(|org| org.name.clone());
    let Some(org) = org else {
        context.space = None;
        return Ok(());
    };
    let spaces = client.spaces(&org.guid).await?;
    let space = match &context.space {
        Some(name) => spaces.iter().find(|space| space.name == *name),
        None => only(&spaces),
    };
    context.space = space.map(|space| space.name.clone());
    Ok(())
}

fn only(all: &[Named]) -> Option<&Named> {
    match all {
        [one] => Some(one),
        _ => None,
    }
}

/// Targets another organisation or space and remembers it.
///
/// # Errors
/// Where they are not there.
pub async fn target(cx: &Cx, org: Option<&str>, space: Option<&str>) -> Result<Config, Error> {
    let mut config = cx.config()?;
    let client = Client::new(&config, cx.ui.clone())?;
    let mut context = config.context()?.clone();
    if let Some(org) = org {
        context.org = Some(org.to_owned());
        context.space = None;
    }
    config.context = Some(context.clone());
    let org = cx.org(&client, &config).await?;
    let spaces = client.spaces(&org.guid).await?;
    if let Some(space) = space {
        if !spaces.iter().any(|known| known.name == space) {
            let names: Vec<String> = spaces.into_iter().map(|space| space.name).collect();
            return Err(missing("space", space, &format!("organisation {}", org.name), &names));
        }
        context.space = Some(space.to_owned());
    } else if let (None, Some(only)) = (&context.space, only(&spaces)) {
        context.space = Some(only.name.clone());
    }
    config.context = Some(context.clone());
    let name = config.context_name.clone();
    UserFile::update(&config.user_path, |file| {
        let stored = file.contexts.entry(name.clone()).or_insert_with(|| context.clone());
        stored.org.clone_from(&context.org);
        stored.space.clone_from(&context.space);
        file.current.get_or_insert(name);
    })?;
    Ok(config)
}
