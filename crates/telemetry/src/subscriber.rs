//! Installs the process's one tracing subscriber: readable on a terminal, JSON lines for machines, to standard error.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Readable where standard error is a terminal, else JSON.
    #[default]
    Auto,
    /// Readable.
    Human,
    /// One JSON object per line.
    Json,
}

/// Why no subscriber was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The filter is not one.
    #[error("not a log filter: {filter:?}")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is one already.
    #[error("a subscriber is already installed")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// Installs the subscriber for this process. `filter` is a level (`info`) or directives (`info,cell=debug`).
///
/// # Errors
/// The filter is malformed, or this is the second call.
pub fn install(filter: &str, format: Format) -> Result<(), InstallError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    build(filter, format, std::io::stderr)?
        .try_init()
        .map_err(InstallError::Installed)
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn build<W>(filter: &str, format: Format, writer: W) -> Result<Subscriber, InstallError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let parsed = EnvFilter::builder().parse(filter);
    let parsed = parsed.map_err(|source| InstallError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let terminal = std::io::stderr().is_terminal();
    let base = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(writer);
    Ok(match format {
        Format::Auto if !terminal => Box::new(base.json().flatten_event(true).finish()),
        Format::Json => Box::new(base.json().flatten_event(true).finish()),
        Format::Auto | Format::Human => Box::new(base.with_ansi(terminal).compact().finish()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(filter: &str, format: Format) -> String {
        let sink = Sink::default();
        let target = sink.clone();
        let subscriber = build(filter, format, move || target.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(app.id = "a1", "started");
            tracing::debug!("detail");
        });
        String::from_utf8(sink.0.lock().clone()).unwrap()
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = written("info", Format::Json);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["app.id"]),
            (&"INFO".into(), &"started".into(), &"a1".into())
        );
    }

    #[test]
    fn human_text_names_the_fields() {
        let text = written("debug", Format::Human);
        assert!(
            text.contains("started") && text.contains("app.id") && text.contains("detail"),
            "{text}"
        );
    }

    #[test]
    fn a_malformed_filter_is_named() {
        let error = install("info,=,", Format::Json).unwrap_err();
        assert_eq!(error.to_string(), r#"not a log filter: "info,=,""#);
    }
}
