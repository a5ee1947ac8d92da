//! Phases of a long command: a bar or spinner on a terminal, a line at the end and heartbeats elsewhere.

use super::{HEARTBEAT, Ui, format, lock};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// A phase under way. Dropped without [`Phase::done`], it leaves no trace.
pub struct Phase {
    ui: Ui,
    name: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Ui {
    /// Begins a phase; its short name is shown in a column before the text.
    pub fn phase(&self, name: &'static str, text: &str) -> Phase {
        let bar = self.live().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix:<8} {wide_msg} {elapsed:>5}") {
                bar.set_style(style);
            }
            bar.set_prefix(name);
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            *lock(&self.0.bar) = Some(bar.clone());
            bar
        });
        Phase {
            ui: self.clone(),
            name,
            started: Instant::now(),
            bar,
        }
    }

    /// Mentions what is awaited, where nothing was printed for a while. On a terminal the spinner says it already.
    pub fn heartbeat(&self, awaited: &str, since: Instant, limit: Option<Duration>) {
        if !self.talks() || self.live() || lock(&self.0.last_line).elapsed() < HEARTBEAT - Duration::from_millis(200) {
            return;
        }
        let limit = limit.map_or_else(String::new, |limit| {
            format!(", at most {}", format::coarse(limit.as_secs()))
        });
        self.say(&format!(
            "still waiting for {awaited} ({}{limit})",
            format::coarse(since.elapsed().as_secs())
        ));
    }
}

impl Phase {
    /// What the phase is waiting for now; shown by the spinner.
    pub fn status(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Turns the spinner into a bar of bytes.
    pub fn measure(&self, total: u64) {
        if let Some(bar) = &self.bar {
            let template = "{spinner:.cyan} {prefix:<8} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_length(total);
        }
    }

    /// How many bytes are done.
    pub fn position(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Ends the phase with a line that says what came of it, and returns how long it took.
    pub fn done(mut self, text: &str) -> Duration {
        let elapsed = self.started.elapsed();
        self.clear();
        let time = format::duration(elapsed);
        self.ui.say(&format!("{:<8} {text}  {time}", self.name));
        elapsed
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            lock(&self.ui.0.bar).take();
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.clear();
    }
}
