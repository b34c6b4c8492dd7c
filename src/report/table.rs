//! Tables of text: columns as wide as what they hold, numbers at their right edge.

use std::fmt::Write;

use anstyle::Style;

use crate::plot::escape;

const HEADING: Style = Style::new().bold();

/// A table whose first column is text, and whose others are numbers.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not as many cells as there are headings.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.styled_row(cells.into_iter().map(|cell| (cell.into(), Style::new())));
    }

    /// Adds a row of cells each with a style.
    ///
    /// # Panics
    /// If it has not as many cells as there are headings.
    pub fn styled_row(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        let cells: Vec<_> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.headings.len(), "a cell for each heading");
        self.rows.push(cells);
    }

    /// The table as an HTML element.
    pub fn to_html(&self) -> String {
        let mut out = String::from("<table>\n<thead><tr>");
        for heading in &self.headings {
            let _ = write!(out, "<th>{}</th>", escape(heading));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (text, _) in row {
                let _ = write!(out, "<td>{}</td>", escape(text));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>");
        out
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |text: &str| text.chars().count();
        let widths: Vec<usize> = (self.headings.iter().enumerate())
            .map(|(column, heading)| {
                let cells = self.rows.iter().map(|row| length(&row[column].0));
                cells.chain([length(heading)]).max().unwrap_or(0)
            })
            .collect();
        let write_row = |f: &mut std::fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = (&str, Style)>| {
            let mut line = String::new();
            for (column, ((text, style), width)) in cells.zip(&widths).enumerate() {
                let space = " ".repeat(width - length(text));
                // The codes of a style would keep the space before them from being cut off.
                let style = if text.is_empty() { Style::new() } else { style };
                match column {
                    0 => write!(line, "{style}{text}{style:#}{space}")?,
                    _ => write!(line, "  {space}{style}{text}{style:#}")?,
                }
            }
            writeln!(f, "{}", line.trim_end())
        };
        write_row(f, &mut self.headings.iter().map(|heading| (heading.as_str(), HEADING)))?;
        for row in &self.rows {
            write_row(f, &mut row.iter().map(|(text, style)| (text.as_str(), *style)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let mut table = Table::new(["what", "e/s", ""]);
        table.row(["1 thread", "7", "x"]);
        table.row(["2", "12345", ""]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "what        e/s\n1 thread      7  x\n2         12345\n");
    }
}
