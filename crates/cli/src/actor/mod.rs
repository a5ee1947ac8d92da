//! Use cases: what a command does with the API, without printing results or parsing arguments.

pub mod apps;
pub mod deploy;
pub mod doctor;
pub mod exec;
pub mod export;
pub mod forward;
pub mod instances;
pub mod login;
pub mod push;
pub mod routes;

use crate::args::Globals;
use crate::client::Client;
use crate::client::wire::{App, Named};
use crate::config::{Config, Environment, Flags};
use crate::errors::Error;
use crate::ui::Ui;
use std::sync::{Arc, Mutex, PoisonError};

/// What every use case needs. Cheap to clone.
#[derive(Clone)]
pub struct Cx {
    pub ui: Ui,
    pub env: Arc<Environment>,
    pub flags: Arc<Flags>,
    in_flight: Arc<Mutex<Option<InFlight>>>,
}

/// What goes on at the server although this program ends.
#[derive(Clone)]
pub struct InFlight {
    pub client: Client,
    /// In words: `the deployment of shop`.
    pub what: String,
    /// How to watch it again.
    pub resume: String,
    /// The rollout, where there is one that could be cancelled.
    pub deployment: Option<String>,
}

/// A space to work in.
#[derive(Clone)]
pub struct Target {
    pub client: Client,
    pub config: Config,
    pub org: Named,
    pub space: Named,
}

impl Cx {
    /// Of this process.
    pub fn new(ui: Ui, env: Environment, globals: &Globals) -> Self {
        let flags = Flags {
            context: globals.context.clone(),
            org: globals.org.clone(),
            space: globals.space.clone(),
        };
        Self {
            ui,
            env: Arc::new(env),
            flags: Arc::new(flags),
            in_flight: Arc::default(),
        }
    }

    /// The settings in force.
    ///
    /// # Errors
    /// Where they can't be read.
    pub fn config(&self) -> Result<Config, Error> {
        Config::load(&self.env, &self.flags)
    }

    /// A client for the context in force.
    ///
    /// # Errors
    /// Where there is none.
    pub fn client(&self) -> Result<Client, Error> {
        Client::new(&self.config()?, self.ui.clone())
    }

    /// The targeted organisation.
    ///
    /// # Errors
    /// Where none is targeted, or it is not there.
    pub async fn org(&self, client: &Client, config: &Config) -> Result<Named, Error> {
        let name = config.context()?.org.clone().ok_or(Error::NoOrg)?;
        match client.org(&name).await? {
            Some(org) => Ok(org),
            None => {
                let names = client.orgs().await?.into_iter().map(|org| org.name).collect::<Vec<_>>();
                Err(missing("organisation", &name, client.api(), &names))
            }
        }
    }

    /// The targeted space.
    ///
    /// # Errors
    /// Where none is targeted, or it is not there.
    pub async fn target(&self) -> Result<Target, Error> {
        let config = self.config()?;
        let client = Client::new(&config, self.ui.clone())?;
        let org = self.org(&client, &config).await?;
        let name = config
            .context()?
            .space
            .clone()
            .ok_or_else(|| Error::NoSpace { org: org.name.clone() })?;
        let Some(space) = client.space(&org.guid, &name).await? else {
            let names = client
                .spaces(&org.guid)
                .await?
                .into_iter()
                .map(|space| space.name)
                .collect::<Vec<_>>();
            return Err(missing("space", &name, &format!("organisation {}", org.name), &names));
        };
        Ok(Target {
            client,
            config,
            org,
            space,
        })
    }

    /// The targeted names as text, known without asking the server: for the first line of output.
    pub fn place(&self) -> String {
        match self.config().ok().and_then(|config| config.context) {
            Some(context) => match (context.org, context.space) {
                (Some(org), Some(space)) => format!("org {org} / space {space}"),
                (Some(org), None) => format!("org {org}"),
                _ => context.api,
            },
            None => "the platform".into(),
        }
    }

    /// Notes what goes on at the server from now on.
    pub fn set_in_flight(&self, in_flight: Option<InFlight>) {
        *self.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = in_flight;
    }

    /// What goes on at the server.
    pub fn in_flight(&self) -> Option<InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Target {
    /// An app by name; where it is not there, the error names similar ones.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn app(&self, name: &str) -> Result<App, Error> {
        if let Some(app) = self.client.app(&self.space.guid, name).await? {
            return Ok(app);
        }
        let names: Vec<String> = self
            .client
            .apps(&self.space.guid)
            .await?
            .into_iter()
            .map(|app| app.name)
            .collect();
        Err(missing("app", name, &self.place(), &names))
    }

    /// For messages.
    pub fn place(&self) -> String {
        format!("org {} / space {}", self.org.name, self.space.name)
    }
}

/// The error for a name that is not among `names`.
pub fn missing(kind: &'static str, name: &str, place: &str, names: &[String]) -> Error {
    Error::NotFound {
        kind,
        name: name.to_owned(),
        place: place.to_owned(),
        similar: similar(name, names),
    }
}

/// Those of `names` that `name` may be a slip for, the likeliest first; at most three.
fn similar(name: &str, names: &[String]) -> Vec<String> {
    let lower = name.to_lowercase();
    let limit = (name.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &String)> = names
        .iter()
        .filter_map(|other| {
            let other_lower = other.to_lowercase();
            let contained = lower.len() >= 3 && (other_lower.contains(&lower) || lower.contains(&other_lower));
            let distance = distance(&lower, &other_lower);
            (contained || distance <= limit).then_some((distance, other))
        })
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, other)| other.clone()).collect()
}

/// Insertions, deletions and replacements between two texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let above = row[j + 1];
            let replaced = diagonal + usize::from(from != *to);
            row[j + 1] = replaced.min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let names: Vec<String> = ["shop", "shop-worker", "billing"].map(str::to_owned).into();
        assert_eq!(similar("shpo", &names), Vec::<String>::new());
        assert_eq!(similar("shp", &names), ["shop"]);
        assert_eq!(similar("Shop", &names), ["shop", "shop-worker"]);
        assert_eq!(similar("bilings", &names), ["billing"]);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
