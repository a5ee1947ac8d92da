//! Watches a living sandbox: its end, its health, its time limits, and what the controller wants of it.

use super::Message;
use super::actor::Actor;
use crate::error::chain;
use crate::exec;
use crate::fd::readable;
use crate::health::{Target, listening};
use crate::policy;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use model::Timestamp;
use model::work::{Cause, InstanceSpec, Wanted, WorkEvent, WorkKind, WorkState};
use sandbox::Sandbox;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Seconds from SIGTERM to SIGKILL of a task.
const TASK_GRACE: u32 = 10;
/// Seconds from SIGTERM to SIGKILL of a build.
const BUILD_GRACE: u32 = 2;
/// Seconds from SIGTERM to SIGKILL of an instance that does not answer anyway.
const UNHEALTHY_GRACE: u32 = 10;
/// The signal that asks for an orderly end.
const SIGTERM: i32 = 15;

/// How watching ended.
pub(super) enum Watched {
    /// Everything inside is gone.
    Ended,
    /// The agent is going; the sandbox stays.
    Abandoned,
}

/// What health checking found.
enum Health {
    Healthy,
    NeverHealthy(String),
    Unhealthy(String),
}

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The work took too long.
    TimeLimit(u32),
    /// The grace is over.
    Kill,
}

/// Watches until the sandbox is gone.
pub(super) async fn supervise(actor: &mut Actor, sandbox: &Arc<Sandbox>) -> Watched {
    let watched = Arc::clone(sandbox);
    let mut gone = async move { readable(watched.pidfd()).await }.boxed();
    let mut health = first_health(actor, sandbox);
    let mut deadline = time_limit(actor);
    let mut following = Some(policy::follow(
        &actor.core,
        &actor.record.spec,
        sandbox,
        actor.under.take(),
    ));
    if actor.record.state == WorkState::Stopping || actor.record.wanted == Wanted::Stop {
        // Either the agent before this one was ending it, or nobody wanted it any more by the time it was there.
        let cause = actor.record.ending.clone().unwrap_or(Cause::Stopped { killed: false });
        deadline = begin_end(actor, sandbox, cause).await;
        health = std::future::pending().boxed();
    }
    loop {
        if actor.record.ending.is_some() {
            // What ends goes on as it is: its space may be gone already, and with it the rules that it winds up by.
            drop(following.take());
        }
        tokio::select! {
            biased;
            result = &mut gone => {
                if let Err(error) = result {
                    tracing::error!(work.id = %actor.record.work, %error, "failed to watch a sandbox, ending it");
                    kill(actor, sandbox).await;
                }
                return Watched::Ended;
            }
            message = actor.inbox.recv() => {
                let Some(message) = message else { return Watched::Abandoned };
                if hear(actor, sandbox, message).await && actor.record.ending.is_none() {
                    health = std::future::pending().boxed();
                    deadline = begin_end(actor, sandbox, Cause::Stopped { killed: false }).await;
                }
            }
            found = &mut health => {
                health = std::future::pending().boxed();
                match found {
                    Health::Healthy => health = healthy(actor, sandbox).await,
                    Health::NeverHealthy(detail) => {
                        deadline = begin_end(actor, sandbox, Cause::StartTimeout { detail }).await;
                    }
                    Health::Unhealthy(detail) => {
                        deadline = begin_end(actor, sandbox, Cause::Unhealthy { detail }).await;
                    }
                }
            }
            due = wait(deadline) => match due {
                Due::TimeLimit(seconds) => deadline = begin_end(actor, sandbox, Cause::TimedOut { seconds }).await,
                Due::Kill => {
                    deadline = None;
                    if let Some(Cause::Stopped { killed }) = &mut actor.record.ending {
                        *killed = true;
                    }
                    kill(actor, sandbox).await;
                }
            }
        }
    }
}

/// Takes a message about living work. Says whether it has to end.
async fn hear(actor: &mut Actor, sandbox: &Arc<Sandbox>, message: Message) -> bool {
    match message {
        Message::Exec(request) => {
            exec::start(
                Arc::clone(&actor.core),
                actor.record.spec.clone(),
                Arc::clone(sandbox),
                request,
            );
            false
        }
        message => {
            let epoch = actor.record.epoch;
            let end = actor.hear(message);
            if actor.record.epoch != epoch {
                actor.publish().await;
            }
            end
        }
    }
}

/// Asks for an orderly end, and says when it is over. The cause is on disk before anything is signalled.
async fn begin_end(actor: &mut Actor, sandbox: &Arc<Sandbox>, cause: Cause) -> Option<(Instant, Due)> {
    let grace = match (&actor.record.spec.kind, &cause) {
        (WorkKind::Instance(instance), Cause::Stopped { .. }) => instance.grace_seconds,
        (WorkKind::Instance(instance), _) => instance.grace_seconds.min(UNHEALTHY_GRACE),
        (WorkKind::Task(_), _) => TASK_GRACE,
        (WorkKind::Build(_), _) => BUILD_GRACE,
    };
    let work = actor.record.work;
    match &cause {
        Cause::StartTimeout { detail } => actor.say(format!("startup health check never passed: {detail}")),
        Cause::Unhealthy { detail } => actor.say(format!("Container became unhealthy: {detail}")),
        _ => {}
    }
    actor.say(format!("Cell {} stopping instance {work}", actor.core.cell));
    actor.record.ending = Some(cause);
    actor.step(WorkEvent::Stop);
    actor.save_seen().await;
    let signalled = Arc::clone(sandbox);
    // Not awaited: whatever becomes of it, the grace has begun.
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = signalled.signal(SIGTERM) {
            tracing::debug!(work.id = %work, error = %chain(&error), "failed to signal work");
        }
    }));
    Some((Instant::now() + Duration::from_secs(u64::from(grace)), Due::Kill))
}

async fn kill(actor: &Actor, sandbox: &Arc<Sandbox>) {
    let killed = Arc::clone(sandbox);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || killed.kill()).await {
        tracing::error!(work.id = %actor.record.work, error = %chain(&error), "failed to kill work");
    }
}

async fn wait(deadline: Option<(Instant, Due)>) -> Due {
    match deadline {
        Some((at, due)) => {
            tokio::time::sleep_until(at).await;
            due
        }
        None => std::future::pending().await,
    }
}

/// When a task or a build has taken too long: counted from its start, also across a restart of the agent.
fn time_limit(actor: &Actor) -> Option<(Instant, Due)> {
    let seconds = match &actor.record.spec.kind {
        WorkKind::Instance(_) => return None,
        WorkKind::Task(task) => task.timeout_seconds,
        WorkKind::Build(build) => build.timeout_seconds,
    };
    let left = Duration::from_secs(u64::from(seconds)).saturating_sub(passed(actor));
    Some((Instant::now() + left, Due::TimeLimit(seconds)))
}

/// Time since the present state began.
fn passed(actor: &Actor) -> Duration {
    (Timestamp::now_utc() - actor.record.since)
        .try_into()
        .unwrap_or_default()
}

/// The question that is due first: whether it has become healthy, or (adopted) whether it still is.
fn first_health(actor: &Actor, sandbox: &Sandbox) -> BoxFuture<'static, Health> {
    if actor.record.state == WorkState::Running {
        return still_healthy(actor, sandbox);
    }
    let WorkKind::Instance(instance) = &actor.record.spec.kind else {
        return std::future::ready(Health::Healthy).boxed();
    };
    let Some((target, port)) = target(instance, sandbox) else {
        return std::future::ready(Health::Healthy).boxed();
    };
    let allowed = Duration::from_secs(u64::from(instance.health.start_timeout_seconds));
    let left = allowed.saturating_sub(passed(actor));
    let pid = u32::try_from(sandbox.init_pid()).unwrap_or(0);
    async move {
        let last = parking_lot::Mutex::new("it was never asked".to_owned());
        if tokio::time::timeout(left, target.until_healthy(&last)).await.is_ok() {
            return Health::Healthy;
        }
        let answer = last.into_inner();
        let listening = listening::explain(pid, port);
        Health::NeverHealthy(format!("after {} s: {answer}; {listening}", allowed.as_secs()))
    }
    .boxed()
}

fn still_healthy(actor: &Actor, sandbox: &Sandbox) -> BoxFuture<'static, Health> {
    let WorkKind::Instance(instance) = &actor.record.spec.kind else {
        return std::future::pending().boxed();
    };
    let Some((target, port)) = target(instance, sandbox) else {
        return std::future::pending().boxed();
    };
    let interval = Duration::from_secs(u64::from(instance.health.interval_seconds.max(1)));
    let pid = u32::try_from(sandbox.init_pid()).unwrap_or(0);
    async move {
        let answer = target.until_unhealthy(interval).await;
        Health::Unhealthy(format!("{answer}; {}", listening::explain(pid, port)))
    }
    .boxed()
}

fn target(instance: &InstanceSpec, sandbox: &Sandbox) -> Option<(Target, u16)> {
    let port = instance.port?;
    let address = sandbox.address().map(|address| SocketAddrV4::new(address, port));
    Some((Target::new(&instance.health, address)?, port))
}

/// Notes that it is healthy, and asks from now on whether it still is.
async fn healthy(actor: &mut Actor, sandbox: &Sandbox) -> BoxFuture<'static, Health> {
    let took = passed(actor);
    if matches!(actor.record.spec.kind, WorkKind::Instance(_)) {
        actor.phase("healthy", took);
        actor.say("Container became healthy".to_owned());
    }
    actor.step(WorkEvent::Healthy);
    actor.save_seen().await;
    still_healthy(actor, sandbox)
}
