//! Lists of apps with the state of their instances and their routes.

use super::Target;
use crate::client::wire::{App, Instance, Process, Route};
use crate::errors::Error;
use serde::Serialize;
use std::collections::HashMap;

/// An app as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub app: App,
    pub processes: Vec<Process>,
    pub urls: Vec<String>,
}

impl Row {
    /// Instances that run, and those that are wanted, of one process.
    pub fn count(process: &Process) -> (usize, u32) {
        (running(&process.process_instances), process.instances)
    }
}

/// Instances that run.
pub fn running(instances: &[Instance]) -> usize {
    instances.iter().filter(|instance| instance.state == "RUNNING").count()
}

/// The apps of the targeted space.
///
/// # Errors
/// Where they can't be asked for.
pub async fn list(target: &Target) -> Result<Vec<Row>, Error> {
    let space = &target.space.guid;
    let client = &target.client;
    let (apps, processes, routes, platform) = tokio::try_join!(
        client.apps(space),
        client.space_processes(space),
        client.routes(space),
        client.platform()
    )?;
    let url = |route: &Route| super::routes::url(route, platform, client.api());
    Ok(join(apps, processes, &routes, url))
}

fn join(apps: Vec<App>, processes: Vec<Process>, routes: &[Route], url: impl Fn(&Route) -> String) -> Vec<Row> {
    let mut by_app: HashMap<String, Vec<Process>> = HashMap::new();
    for process in processes {
        if let Some(app) = process.relationships.app.as_ref() {
            by_app.entry(app.data.guid.clone()).or_default().push(process);
        }
    }
    let mut urls: HashMap<&str, Vec<String>> = HashMap::new();
    for route in routes {
        for destination in &route.destinations {
            urls.entry(&destination.app.guid).or_default().push(url(route));
        }
    }
    apps.into_iter()
        .map(|app| Row {
            processes: by_app.remove(&app.guid).unwrap_or_default(),
            urls: urls.remove(app.guid.as_str()).unwrap_or_default(),
            app,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn apps_get_their_processes_and_routes() {
        let apps = serde_json::from_value(json!([{"guid": "a", "name": "x", "extra": 1}, {"guid": "b", "name": "y"}]));
        let processes = serde_json::from_value(json!([{
            "guid": "p", "type": "web", "instances": 2,
            "process_instances": [{"index": 0, "state": "RUNNING"}, {"index": 1, "state": "CRASHED"}],
            "relationships": {"app": {"data": {"guid": "a"}}}}]));
        let routes: Vec<Route> = serde_json::from_value(json!([{
            "guid": "r", "url": "x.test", "destinations": [{"guid": "d", "app": {"guid": "a", "process": {"type": "web"}}}]}]))
        .expect("routes");
        let rows = join(apps.expect("apps"), processes.expect("processes"), &routes, |route| {
            route.url.clone()
        });
        assert_eq!(Row::count(&rows[0].processes[0]), (1, 2));
        assert_eq!(
            (rows[0].urls.as_slice(), rows[1].urls.len()),
            (["x.test".to_owned()].as_slice(), 0)
        );
        assert_eq!(
            serde_json::to_value(&rows[0]).expect("writes")["extra"],
            1,
            "nothing of the API's is lost"
        );
    }
}
