//! The results of all test binaries, added up.

use std::{fmt, io::Write};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Sums of the results of all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    passed: usize,
    pub(super) failed: usize,
    ignored: usize,
}

impl Totals {
    /// Copies the output of the tests as it comes, and adds up the results in it.
    pub(super) async fn of(output: impl AsyncRead + Unpin, mut copy: impl Write) -> Result<Self> {
        let mut totals = Self::default();
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // Tests may print bytes that are not UTF-8.
        while output.read_until(b'\n', &mut line).await? > 0 {
            copy.write_all(&line)?;
            copy.flush()?;
            totals.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(totals)
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; ignores others.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(count)), Some(what)) =
                (words.next().map(str::parse::<usize>), words.next())
            {
                let sum = match what {
                    "passed" => &mut self.passed,
                    "failed" => &mut self.failed,
                    "ignored" => &mut self.ignored,
                    _ => continue,
                };
                *sum += count;
            }
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "total: {} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(formatter, ", {} skipped", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn results_of_all_binaries_are_added_up() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            a test says: test result: ok. 9 passed\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.2s\n";
        let totals = Totals::of(output.as_bytes(), io::sink()).await.unwrap();
        assert_eq!(totals, Totals { passed: 5, failed: 4, ignored: 1 });
        assert_eq!(totals.to_string(), "total: 5 passed, 4 failed, 1 skipped");
        assert_eq!(Totals::default().to_string(), "total: 0 passed, 0 failed");
    }
}
