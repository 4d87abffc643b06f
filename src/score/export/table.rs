//! A table of scores as readers want it: on a terminal, in Markdown, in LaTeX. The same cells in all three.

use crate::text::clean;

/// What stands where there is nothing to say.
pub(super) const NOTHING: &str = "–";

/// Names first, then numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Heads of the columns.
    pub head: Vec<String>,
    /// How many columns hold numbers, those from here on; the rest is text.
    pub numbers: std::ops::Range<usize>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
    /// A row of its own at the end: the whole.
    pub total: Option<Vec<String>>,
}

impl Table {
    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        self.rows.iter().chain(&self.total)
    }

    /// For a terminal: columns two blanks apart, numbers to the right.
    pub fn text(&self) -> String {
        let wide = |column: usize| {
            let cells = self.lines().map(|row| row[column].as_str()).chain([self.head[column].as_str()]);
            cells.map(|cell| clean(cell).chars().count()).max().unwrap_or(0)
        };
        let wide: Vec<usize> = (0..self.head.len()).map(wide).collect();
        let line = |cells: &Vec<String>| {
            let cell = |(column, cell): (usize, &String)| {
                let (wide, cell) = (wide[column], clean(cell));
                if self.numbers.contains(&column) { format!("{cell:>wide$}") } else { format!("{cell:wide$}") }
            };
            format!("{}\n", cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end())
        };
        let rows: String = std::iter::once(&self.head).chain(self.lines()).map(line).collect();
        format!("{}\n{rows}", self.title)
    }

    /// GitHub-flavoured Markdown.
    pub fn markdown(&self) -> String {
        let escape = |cell: &String| clean(cell).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rule = (0..self.head.len()).map(|c| if self.numbers.contains(&c) { "---:" } else { "---" }.to_string());
        let mut out = format!("**{}**\n\n{}", self.title, line(self.head.iter().map(escape).collect()));
        out.push_str(&line(rule.collect()));
        for row in &self.rows {
            out.push_str(&line(row.iter().map(escape).collect()));
        }
        if let Some(total) = &self.total {
            out.push_str(&line(total.iter().map(|cell| format!("**{}**", escape(cell))).collect()));
        }
        out
    }

    /// A `tabular` for the package booktabs.
    pub fn latex(&self) -> String {
        let line = |cells: &Vec<String>| {
            let minus = |text: String| text.strip_prefix('-').map(|t| format!("$-${t}")).unwrap_or(text);
            let cell = |(column, cell): (usize, &String)| {
                let text = latex(cell);
                if self.numbers.contains(&column) && cell != NOTHING { minus(text) } else { text }
            };
            let row = cells.iter().enumerate().map(cell).collect::<Vec<_>>().join(" & ");
            // What stands first in a row would be an argument of the `\\` before it.
            let guard = if row.starts_with(['[', '*']) { "{}" } else { "" };
            format!("{guard}{row} \\\\\n")
        };
        let columns = (0..self.head.len()).map(|c| if self.numbers.contains(&c) { 'r' } else { 'l' });
        let mut out = format!("% {}\n\\begin{{tabular}}{{{}}}\n", clean(&self.title), columns.collect::<String>());
        out.push_str(&format!("\\toprule\n{}\\midrule\n", line(&self.head)));
        self.rows.iter().for_each(|row| out.push_str(&line(row)));
        if let Some(total) = &self.total {
            out.push_str(&format!("\\midrule\n{}", line(total)));
        }
        out.push_str("\\bottomrule\n\\end{tabular}\n");
        out
    }
}

/// Text as LaTeX shows it, whatever it holds.
fn latex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            'Ḟ' => out.push_str("\\.{F}"),
            '–' => out.push_str("--"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_acts_in_latex_or_markdown() {
        let table = Table {
            title: "Odd".into(),
            head: ["video", "J&F"].map(String::from).to_vec(),
            numbers: 1..2,
            rows: vec![
                ["[2pt] a_b".to_string(), "1".into()].to_vec(),
                [r"*50% $x$ #1 {~^\} <i>|".to_string(), "-2".into()].to_vec(),
            ],
            total: None,
        };
        insta::assert_snapshot!(table.latex(), @r"
        % Odd
        \begin{tabular}{lr}
        \toprule
        video & J\&F \\
        \midrule
        {}[2pt] a\_b & 1 \\
        {}*50\% \$x\$ \#1 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\} \textless{}i\textgreater{}\textbar{} & $-$2 \\
        \bottomrule
        \end{tabular}
        ");
        assert!(table.markdown().contains(r"| *50% $x$ #1 {~^\\} &lt;i>\| | -2 |"), "{}", table.markdown());
    }
}
