//! What an import prints: its progress to standard error, and a summary to standard output.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use tokio::time::{Instant, Interval, interval_at};

use super::{ImportCommand, batch::ImportedBatch};

/// Interval of the progress on a terminal, which shows it in one line.
const TERMINAL_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the progress in a log, where each is a line.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of names of fields in the summary.
const MAX_FIELDS: usize = 20;

/// Counts of an import.
pub(super) struct Progress {
    total: u64,
    dry_run: bool,
    on_terminal: bool,
    begun: Instant,
    /// Time and number of documents of the last print.
    last: (Instant, u64),
    imported: u64,
    already_imported: u64,
    rejected: u64,
    other_fields: BTreeMap<String, u64>,
    /// True if there are more fields than the summary names.
    has_more_fields: bool,
}

impl Progress {
    pub(super) fn new(total: u64, dry_run: bool) -> Self {
        let begun = Instant::now();
        Self {
            total,
            dry_run,
            on_terminal: std::io::stderr().is_terminal(),
            begun,
            last: (begun, 0),
            imported: 0,
            already_imported: 0,
            rejected: 0,
            other_fields: BTreeMap::new(),
            has_more_fields: false,
        }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Returns the times at which the progress is printed.
    pub(super) fn ticks(&self) -> Interval {
        let period = if self.on_terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        interval_at(self.begun + period, period)
    }

    pub(super) fn add(&mut self, batch: ImportedBatch) {
        self.imported += batch.imported;
        self.already_imported += batch.already_imported;
        self.rejected += batch.rejected;
        for (name, documents) in batch.other_fields {
            if self.other_fields.len() < MAX_FIELDS || self.other_fields.contains_key(&name) {
                *self.other_fields.entry(name).or_default() += documents;
            } else {
                self.has_more_fields = true;
            }
        }
    }

    /// Prints a line to standard error; on a terminal, over the line before.
    pub(super) fn print(&mut self) {
        let now = Instant::now();
        let done = self.done();
        let (then, before) = std::mem::replace(&mut self.last, (now, done));
        let rate = per_second(done - before, now - then);
        let line = line(done, self.total, rate, self.rejected);
        let text = if self.on_terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") };
        // An import goes on without its terminal.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Prints the summary to standard output.
    pub(super) fn finish(&mut self, source: &str, command: &ImportCommand) {
        if self.on_terminal {
            self.print();
            eprintln!();
        }
        // A summary that nobody reads is not an error.
        let _ = std::io::stdout().write_all(self.summary(source, command).as_bytes());
    }

    fn summary(&self, source: &str, command: &ImportCommand) -> String {
        let took = self.begun.elapsed();
        let (seconds, rate) = (took.as_secs_f64(), grouped(per_second(self.done(), took)));
        let (note, imported) = if self.dry_run {
            ("dry run: nothing was written to the database\n", "to import:")
        } else {
            ("", "imported:")
        };
        let mut rows = vec![
            ("source:", source.to_owned()),
            ("documents read:", format!("{} in {seconds:.1} s ({rate}/s)", grouped(self.done()))),
            (imported, grouped(self.imported)),
            ("already imported:", grouped(self.already_imported)),
            ("rejected:", format!("{} ({})", grouped(self.rejected), command.rejects.display())),
            ("old and new ids:", command.mapping.display().to_string()),
        ];
        rows.extend(self.left_out().into_iter().map(|fields| ("left out:", fields)));
        let rows = rows.iter().map(|(name, value)| format!("{name:<18}{value}\n"));
        std::iter::once(note.to_owned()).chain(rows).collect()
    }

    fn left_out(&self) -> Vec<String> {
        let named = (self.other_fields.iter()).map(|(name, documents)| {
            format!("the field {name} of {} documents", grouped(*documents))
        });
        let more = self.has_more_fields.then(|| "more fields, which are not named here".to_owned());
        named.chain(more).collect()
    }

    fn done(&self) -> u64 {
        self.imported + self.already_imported + self.rejected
    }
}

fn line(done: u64, total: u64, rate: u64, rejected: u64) -> String {
    // The total is what MongoDB estimates.
    let total = total.max(done);
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    let left = match (total - done).checked_div(rate) {
        Some(seconds) => format!("{}:{:02} left", seconds / 60, seconds % 60),
        None => "waiting for MongoDB".to_owned(),
    };
    format!(
        "{} of {} documents ({percent} %), {}/s, {left}, {} rejected",
        grouped(done),
        grouped(total),
        grouped(rate),
        grouped(rejected)
    )
}

fn per_second(documents: u64, time: Duration) -> u64 {
    let millis = time.as_millis().max(1);
    u64::try_from(u128::from(documents) * 1000 / millis).unwrap_or(u64::MAX)
}

/// Returns the number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is_and_how_long_it_takes() {
        assert_eq!(
            line(250_000, 1_000_000, 25_000, 3),
            "250,000 of 1,000,000 documents (25 %), 25,000/s, 0:30 left, 3 rejected"
        );
        assert_eq!(
            line(0, 1_000, 0, 0),
            "0 of 1,000 documents (0 %), 0/s, waiting for MongoDB, 0 rejected"
        );
        assert_eq!(
            line(1_001, 1_000, 9, 0),
            "1,001 of 1,001 documents (100 %), 9/s, 0:00 left, 0 rejected"
        );
        assert!(line(0, 0, 0, 0).starts_with("0 of 0 documents (100 %)"));
    }

    #[test]
    fn the_summary_says_that_there_are_more_fields_than_it_names() {
        let fields = |batches: &[usize]| {
            let mut progress = Progress::new(1, false);
            for count in batches {
                let other_fields =
                    (0..*count).map(|number| (format!("field{number}"), 1)).collect();
                progress.add(ImportedBatch { other_fields, ..ImportedBatch::default() });
            }
            progress.left_out()
        };
        assert_eq!(fields(&[MAX_FIELDS]).len(), MAX_FIELDS);
        assert_eq!(fields(&[MAX_FIELDS + 5]).len(), MAX_FIELDS + 1);
        let twice = fields(&[MAX_FIELDS, MAX_FIELDS]);
        assert_eq!(twice.len(), MAX_FIELDS);
        assert_eq!(twice[0], "the field field0 of 2 documents");
    }

    #[test]
    fn a_rate_counts_the_time_that_it_took() {
        assert_eq!(per_second(30_000, Duration::from_millis(1_500)), 20_000);
        assert_eq!(per_second(5, Duration::ZERO), 5_000);
    }
}
