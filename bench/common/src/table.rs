//! Tables in Markdown.

use std::fmt;

/// A table under construction. Its rows have as many cells as its head.
#[derive(Clone, Debug)]
pub struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Begins with the titles of the columns: `text` columns of text, the others of numbers.
    pub fn new<T: AsRef<str>>(text: usize, titles: impl IntoIterator<Item = T>) -> Self {
        let mut rule = String::from("|");
        let titles = titles.into_iter().enumerate().map(|(index, title)| {
            rule.push_str(if index < text { " --- |" } else { " --: |" });
            title
        });
        let head = line(titles);
        Self { lines: vec![head, rule] }
    }

    /// Adds a row.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.lines.push(line(cells));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(formatter, "{line}"))
    }
}

fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let mut line = String::from("|");
    for cell in cells {
        line.push(' ');
        line.push_str(cell.as_ref());
        line.push_str(" |");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_head_a_rule_and_rows() {
        let mut table = Table::new(1, ["name", "/s"]);
        table.row(["a".to_owned(), format!("{:.1}", 2.0)]);
        assert_eq!(table.to_string(), "| name | /s |\n| --- | --: |\n| a | 2.0 |\n");
    }
}
