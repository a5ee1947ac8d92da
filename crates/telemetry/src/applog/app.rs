//! The log of one app: its segments in order, appending, dropping, reading. Bounds across apps are `store`'s.

use super::segment::{Segment, scan};
use super::{Dropped, Error, Limits, Page, Position, Query, Summary, failed};
use crate::Envelope;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// How often a read starts again because a segment was sealed or dropped between looking it up and opening it.
const RETRIES: usize = 16;

/// One app's log.
pub(super) struct App {
    folder: PathBuf,
    state: Mutex<State>,
    /// Mirror of the segments' bytes, readable without the lock.
    bytes: AtomicU64,
    /// Signalled at every append and at removal.
    changed: watch::Sender<()>,
}

struct State {
    /// By number, ascending. Only the last can be open.
    segments: VecDeque<Segment>,
    /// Whether an open segment from before this process still has to be counted.
    unread: bool,
    /// Number of the next segment: never one that was there before.
    next: u64,
    removed: bool,
    dropped: Dropped,
}

/// Why segments go.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    Bytes,
    Age,
}

impl App {
    /// The app whose folder is `folder`, with the segments that are there. Reads names only.
    pub fn open(folder: PathBuf) -> Result<Self, Error> {
        let mut segments = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
                let entry = entry.map_err(failed("list", &folder))?;
                let bytes = entry.metadata().map_err(failed("read", &entry.path()))?.len();
                segments.extend(entry.file_name().to_str().and_then(|name| Segment::parse(name, bytes)));
            }
        }
        segments.sort_by_key(|segment| segment.number);
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        let unread = segments.last().is_some_and(|segment| !segment.sealed);
        let next = segments.last().map_or(1, |segment| segment.number + 1);
        let state = State {
            segments: segments.into(),
            unread,
            next,
            removed: false,
            dropped: Dropped::default(),
        };
        let (changed, _) = watch::channel(());
        Ok(Self {
            folder,
            state: Mutex::new(state),
            bytes: AtomicU64::new(bytes),
            changed,
        })
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn dropped(&self) -> Dropped {
        self.state.lock().dropped
    }

    /// Wakes up with every append and at removal.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Appends lines. `Ok(false)` where the app was removed meanwhile.
    pub fn append(&self, envelopes: &[&Envelope], limits: &Limits) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if state.removed {
            return Ok(false);
        }
        self.ready(&mut state)?;
        let mut rest = envelopes;
        while !rest.is_empty() {
            self.make_room(&mut state, limits)?;
            rest = self.append_to_last(&mut state, rest, limits)?;
        }
        let mut total = self.count(&state);
        while total > limits.app_bytes && state.segments.len() > 1 {
            self.drop_oldest(&mut state, Cause::Bytes)?;
            total = self.count(&state);
        }
        self.changed.send_replace(());
        Ok(true)
    }

    /// Drops the oldest segment; `false` where there is none.
    pub fn evict(&self) -> Result<bool, Error> {
        let mut state = self.state.lock();
        self.ready(&mut state)?;
        self.drop_oldest(&mut state, Cause::Bytes)
    }

    /// Drops segments whose last line is before `before_ns`.
    pub fn expire(&self, before_ns: i64) -> Result<(), Error> {
        let mut state = self.state.lock();
        // An open segment that is still unread is read only if it may be all that is left to expire.
        self.ready(&mut state)?;
        while state
            .segments
            .front()
            .is_some_and(|segment| segment.lines == 0 || segment.last_ns < before_ns)
        {
            self.drop_oldest(&mut state, Cause::Age)?;
        }
        Ok(())
    }

    /// Removes everything; followers end.
    pub fn remove(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.removed = true;
        state.segments.clear();
        self.count(&state);
        self.changed.send_replace(());
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.folder)(error)),
            _ => Ok(()),
        }
    }

    /// The place after the last line.
    pub fn end(&self) -> Result<Position, Error> {
        let mut state = self.state.lock();
        self.ready(&mut state)?;
        Ok(state.end())
    }

    /// What there is, by what is known of the segments without reading them.
    pub fn summary(&self) -> Result<Summary, Error> {
        let mut state = self.state.lock();
        self.ready(&mut state)?;
        let filled = || state.segments.iter().filter(|segment| segment.lines > 0);
        let first = filled().map(|segment| segment.first_ns).min();
        Ok(Summary {
            lines: filled().map(|segment| segment.lines).sum(),
            gone: state.dropped.evicted + state.dropped.expired,
            span_ns: first.zip(filled().map(|segment| segment.last_ns).max()),
        })
    }

    /// Reads by time. Segments are visited in the order of the answer, until no later one can change it.
    pub fn read(&self, query: &Query) -> Result<Page, Error> {
        let (mut segments, end) = {
            let mut state = self.state.lock();
            self.ready(&mut state)?;
            let wanted = |segment: &&Segment| segment.overlaps(query.start_ns, query.end_ns);
            (
                state.segments.iter().filter(wanted).cloned().collect::<Vec<_>>(),
                state.end(),
            )
        };
        segments.sort_by_key(|segment| {
            if query.descending {
                -i128::from(segment.last_ns)
            } else {
                segment.first_ns.into()
            }
        });
        let mut found = Found::new(query);
        for segment in segments {
            if found.is_settled(&segment) {
                break;
            }
            let Some(file) = self.open_segment(&segment)? else {
                continue;
            };
            scan(&file, 0, segment.bytes, u64::MAX, |envelope, _| {
                found.add(segment.number, envelope)
            })
            .map_err(failed("read", &segment.file(&self.folder)))?;
            found.sort();
        }
        Ok(Page {
            envelopes: found.finish(),
            end,
        })
    }

    /// Reads about `budget` bytes from a place on. Says where the next line starts and whether lines before it were
    /// dropped unread.
    pub fn read_from(&self, from: Position, budget: u64) -> Result<(Vec<Envelope>, Position, bool), Error> {
        let mut at = from;
        let mut gap = false;
        for _ in 0..RETRIES {
            let (segment, next) = {
                let mut state = self.state.lock();
                self.ready(&mut state)?;
                if at > state.end() {
                    // From a log that was removed and began anew: what it said before is not to be had.
                    return Ok((Vec::new(), state.end(), true));
                }
                let position = state.segments.partition_point(|segment| segment.number < at.segment);
                (
                    state.segments.get(position).cloned(),
                    state.segments.get(position + 1).map(|next| next.number),
                )
            };
            let Some(segment) = segment else {
                return Ok((Vec::new(), at, gap));
            };
            if segment.number != at.segment {
                // The default place is the log's beginning, wherever that is by now.
                gap |= from != Position::default();
                at = Position {
                    segment: segment.number,
                    offset: 0,
                };
            }
            let Some(file) = self.open_segment(&segment)? else {
                continue;
            };
            let mut found = Vec::new();
            let scanned = scan(&file, at.offset, segment.bytes, budget, |envelope, _| {
                found.push(envelope)
            });
            at.offset = scanned.map_err(failed("read", &segment.file(&self.folder)))?;
            match next {
                // At the end of a sealed segment the log goes on in the next.
                Some(next) if found.is_empty() => {
                    at = Position {
                        segment: next,
                        offset: 0,
                    }
                }
                _ => return Ok((found, at, gap)),
            }
        }
        Ok((Vec::new(), at, gap))
    }

    /// Fails where the app was removed; counts what a process before this one has left open.
    fn ready(&self, state: &mut State) -> Result<(), Error> {
        if state.removed {
            let app = self
                .folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            return Err(Error::Removed { app });
        }
        if !state.unread {
            return Ok(());
        }
        if let Some(last) = state.segments.back_mut()
            && last.recover(&self.folder)?
        {
            state.dropped.damaged += 1;
        }
        state.unread = false;
        self.count(state);
        Ok(())
    }

    /// Seals the last segment where it is full, and opens the next.
    fn make_room(&self, state: &mut State, limits: &Limits) -> Result<(), Error> {
        let number = match state.segments.back_mut() {
            Some(last) if !last.sealed && last.bytes < limits.segment_bytes => return Ok(()),
            Some(last) => {
                if !last.sealed {
                    let open = last.file(&self.folder);
                    let sealed = Segment {
                        sealed: true,
                        ..last.clone()
                    };
                    fs::rename(&open, sealed.file(&self.folder)).map_err(failed("seal", &open))?;
                    *last = sealed;
                }
                last.number + 1
            }
            None => state.next,
        };
        fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
        let segment = Segment::new(number);
        let path = segment.file(&self.folder);
        File::create(&path).map_err(failed("create", &path))?;
        state.segments.push_back(segment);
        state.next = number + 1;
        Ok(())
    }

    /// Appends as many lines as the last segment takes, in one write, all or none; the rest is returned.
    fn append_to_last<'a, 'b>(
        &self,
        state: &mut State,
        envelopes: &'a [&'b Envelope],
        limits: &Limits,
    ) -> Result<&'a [&'b Envelope], Error> {
        let Some(last) = state.segments.back_mut() else {
            return Ok(envelopes);
        };
        let mut grown = last.clone();
        let mut bytes = Vec::new();
        let mut taken = 0;
        for envelope in envelopes {
            let before = bytes.len();
            envelope.encode(&mut bytes);
            grown.add(envelope, (bytes.len() - before) as u64);
            taken += 1;
            if grown.bytes >= limits.segment_bytes {
                break;
            }
        }
        let path = last.file(&self.folder);
        let mut file = File::options()
            .append(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        if let Err(error) = file.write_all(&bytes) {
            // Part of it may be there; what follows must not come after half a line.
            let repaired = file.set_len(last.bytes);
            return Err(failed("append to", &path)(repaired.err().unwrap_or(error)));
        }
        *last = grown;
        Ok(&envelopes[taken..])
    }

    fn drop_oldest(&self, state: &mut State, cause: Cause) -> Result<bool, Error> {
        let Some(oldest) = state.segments.front() else {
            return Ok(false);
        };
        let path = oldest.file(&self.folder);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            _ => {}
        }
        match cause {
            Cause::Bytes => state.dropped.evicted += oldest.lines,
            Cause::Age => state.dropped.expired += oldest.lines,
        }
        metrics::counter!("paas_log_lines_dropped_total").increment(oldest.lines);
        state.segments.pop_front();
        self.count(state);
        Ok(true)
    }

    /// Opens a segment's file, by whichever name it has by now; `None` where it is gone.
    fn open_segment(&self, segment: &Segment) -> Result<Option<File>, Error> {
        let mut current = Some(segment.clone());
        for _ in 0..RETRIES {
            let Some(known) = &current else { return Ok(None) };
            let path = known.file(&self.folder);
            match File::open(&path) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("open", &path)(error)),
            }
            let state = self.state.lock();
            let found = state.segments.iter().find(|other| other.number == segment.number);
            current = found.filter(|found| *found != known).cloned();
        }
        Ok(None)
    }

    fn count(&self, state: &State) -> u64 {
        let bytes = state.segments.iter().map(|segment| segment.bytes).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        bytes
    }
}

impl State {
    fn end(&self) -> Position {
        match self.segments.back() {
            Some(last) => Position {
                segment: last.number,
                offset: last.bytes,
            },
            None => Position {
                segment: self.next,
                offset: 0,
            },
        }
    }
}

/// The lines of a query so far, oldest first, no more than were asked for.
struct Found<'a> {
    query: &'a Query,
    /// With the number of the segment that each came from.
    lines: Vec<(u64, Envelope)>,
}

impl<'a> Found<'a> {
    const fn new(query: &'a Query) -> Self {
        Self {
            query,
            lines: Vec::new(),
        }
    }

    fn add(&mut self, segment: u64, envelope: Envelope) {
        if self.query.wants(&envelope) {
            self.lines.push((segment, envelope));
        }
    }

    /// Whether no line of `segment`, nor of any that come after it in the order of the query, is among those asked for.
    fn is_settled(&self, segment: &Segment) -> bool {
        let edge = if self.query.descending {
            self.lines.first()
        } else {
            self.lines.last()
        };
        let beyond = edge.is_none_or(|(_, edge)| {
            if self.query.descending {
                segment.last_ns < edge.ts_ns
            } else {
                segment.first_ns > edge.ts_ns
            }
        });
        self.lines.len() >= self.query.limit && beyond
    }

    /// To be called after each segment. Stable, so lines of one time keep the order of their arrival.
    fn sort(&mut self) {
        self.lines.sort_by_key(|(segment, envelope)| (envelope.ts_ns, *segment));
        if self.query.descending {
            self.lines.drain(..self.lines.len().saturating_sub(self.query.limit));
        } else {
            self.lines.truncate(self.query.limit);
        }
    }

    fn finish(mut self) -> Vec<Envelope> {
        if self.query.descending {
            self.lines.reverse();
        }
        self.lines.into_iter().map(|(_, envelope)| envelope).collect()
    }
}
