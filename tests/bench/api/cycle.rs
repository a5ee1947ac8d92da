//! What the control loop reads at each of its looks, with one instance of every app running: whole, as after an
//! election, and beside what it saw before, as every look after that.

use crate::Taken;
use model::Timestamp;
use model::id::{CellId, WorkId};
use model::resource::CellInfo;
use model::work::{InstanceSpec, Observation, WorkKind, WorkSpec, WorkState};
use std::collections::HashMap;
use std::time::Instant;
use store::testing::TestStore;
use store::{DesiredProcess, Placement};
use uuid::Uuid;

/// Rows of one transaction.
const BATCH: usize = 1000;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + time::Duration::days(20_500)
}

fn cell() -> CellInfo {
    CellInfo {
        id: CellId(Uuid::now_v7()),
        name: "bench".to_owned(),
        zone: "z1".to_owned(),
        stacks: Vec::new(),
        memory_mb: 1 << 40,
        disk_mb: 1 << 40,
        cpus: 1,
        max_work: u32::MAX,
        isolation: Vec::new(),
        version: "0".to_owned(),
        tags: Vec::new(),
    }
}

fn placement(of: &DesiredProcess, cell: CellId) -> Placement {
    let of_version = &of.versions[0];
    Placement {
        id: WorkId(Uuid::now_v7()),
        cell,
        epoch: 1,
        spec: WorkSpec {
            owner: of.owner.clone(),
            limits: of_version.version.limits,
            stack: of_version.droplet.stack.clone(),
            env: of_version.version.env.clone(),
            kind: WorkKind::Instance(InstanceSpec {
                process: of.process.id,
                process_type: of.process.process_type.clone(),
                version: of_version.version.id,
                index: 0,
                droplet: of_version.droplet.id,
                layers: of_version.droplet.layers.clone(),
                command: None,
                health: of_version.version.health.clone(),
                port: Some(8080),
                grace_seconds: 10,
                uris: of.uris.clone(),
                sidecars: Vec::new(),
                image: None,
            }),
        },
    }
}

async fn run_all(store: &TestStore, processes: &[DesiredProcess]) {
    let info = cell();
    let tx = store.begin().await.expect("begun");
    tx.cell_register(&info, now(), now()).await.expect("registered");
    tx.commit().await.expect("committed");
    let web: Vec<Placement> = processes
        .iter()
        .filter(|of| of.process.process_type.as_str() == "web")
        .map(|of| placement(of, info.id))
        .collect();
    for batch in web.chunks(BATCH) {
        let tx = store.begin().await.expect("begun");
        tx.work_insert_batch(batch, now()).await.expect("placed");
        let observed: Vec<Observation> = batch.iter().map(running).collect();
        tx.work_observe_batch(info.id, &observed).await.expect("observed");
        tx.commit().await.expect("committed");
    }
}

fn running(placement: &Placement) -> Observation {
    Observation {
        work: placement.id,
        epoch: 1,
        state: WorkState::Running,
        routable: true,
        address: Some("10.180.0.5".parse().expect("an address")),
        since: now(),
        phases: Vec::new(),
    }
}

/// Times one read; the rows are what it gave.
async fn timed<T, F: Future<Output = store::Result<Vec<T>>>>(
    what: &'static str,
    rounds: usize,
    read: impl Fn() -> F,
) -> Taken {
    let mut times = Vec::with_capacity(rounds);
    let mut rows = 0;
    for _ in 0..rounds {
        let began = Instant::now();
        rows = read().await.expect("read").len();
        times.push(began.elapsed());
    }
    Taken::of(what, times, rows)
}

/// Runs one instance of every app, then reads what the control loop reads.
pub async fn measure(store: &TestStore, rounds: usize) -> Vec<Taken> {
    let rounds = rounds.clamp(1, 20);
    let processes = store.processes_desired().await.expect("read");
    run_all(store, &processes).await;
    let works: HashMap<_, _> = store
        .works_live()
        .await
        .expect("read")
        .into_iter()
        .map(|work| (work.id, work))
        .collect();
    let versions = processes
        .iter()
        .flat_map(|of| &of.versions)
        .map(|of| (of.version.id, of.clone()));
    let versions: store::KnownVersions = versions.collect();
    vec![
        timed("loop: work, whole", rounds, || store.works_live()).await,
        timed("loop: work, seen before", rounds, || store.works_live_beside(&works)).await,
        timed("loop: processes, whole", rounds, || store.processes_desired()).await,
        timed("loop: processes, seen before", rounds, || {
            store.processes_desired_beside(&versions)
        })
        .await,
        timed("loop: routes", rounds, || store.route_table()).await,
    ]
}
