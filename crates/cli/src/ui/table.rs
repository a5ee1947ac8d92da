//! Tables: aligned columns, no frames, nothing after the last cell. Pure: rows in, text out.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};

/// Rows below a header.
#[derive(Debug, Clone)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
            right: Vec::new(),
        }
    }

    /// Aligns a column of numbers to the right.
    pub fn right(mut self, column: usize) -> Self {
        self.right.push(column);
        self
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line ended. `header` says whether the header is part of it, `width` where lines are to wrap.
    pub fn render(&self, header: bool, width: Option<u16>) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING).force_no_tty();
        if let Some(width) = width {
            grid.set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        if header {
            grid.set_header(self.header.clone());
        }
        for row in &self.rows {
            grid.add_row(row);
        }
        let last = self.header.len().saturating_sub(1);
        for (index, column) in grid.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 3 }));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in grid.to_string().lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_nothing_trails() {
        let mut table = Table::new(&["name", "instances", "urls"]).right(1);
        table.row(["shop".into(), "3/3".into(), "shop.example.com".into()]);
        table.row(["a-longer-name".into(), "10/12".into(), String::new()]);
        insta::assert_snapshot!(table.render(true, None), @r"
        name            instances   urls
        shop                  3/3   shop.example.com
        a-longer-name       10/12
        ");
        assert!(table.render(false, None).starts_with("shop "));
    }
}
