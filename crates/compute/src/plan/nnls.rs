//! Non-negative least squares for a handful of columns. The solution has some
//! set of positive coefficients and is the ordinary least squares solution on
//! that set; with four columns there are sixteen sets, so all are tried and
//! nothing iterates. (The crates for this stand on `ndarray` or `nalgebra`, which
//! nothing else here needs.)

/// Most columns: all sets of them are tried.
pub const MAX_COLUMNS: usize = 8;

/// A solution on one set of columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// One coefficient for each column, none negative.
    pub coefficients: Vec<f64>,
    /// Sum of squared residuals.
    pub residual: f64,
    /// How many columns were free.
    pub columns: u32,
}

/// For each set of columns on which ordinary least squares gives no negative
/// coefficient, that solution. The one with the smallest residual is the
/// solution of the problem; others explain almost as much with less. The empty
/// set is always among them.
///
/// Rows are as long as the first one; shorter ones count as zero.
#[must_use]
pub fn solutions(rows: &[Vec<f64>], wanted: &[f64]) -> Vec<Solution> {
    let columns = rows.first().map_or(0, Vec::len).min(MAX_COLUMNS);
    (0..1_u32 << columns).filter_map(|set| solve_on(set, columns, rows, wanted)).collect()
}

fn solve_on(set: u32, columns: usize, rows: &[Vec<f64>], wanted: &[f64]) -> Option<Solution> {
    let chosen: Vec<usize> = (0..columns).filter(|column| set & (1 << column) != 0).collect();
    let at = |row: &[f64], column: usize| row.get(column).copied().unwrap_or(0.0);
    let mut normal: Vec<Vec<f64>> = Vec::new();
    for left in &chosen {
        let product = |right: usize| rows.iter().map(|row| at(row, *left) * at(row, right)).sum::<f64>();
        let mut line: Vec<f64> = chosen.iter().map(|right| product(*right)).collect();
        line.push(rows.iter().zip(wanted).map(|(row, wanted)| at(row, *left) * wanted).sum());
        normal.push(line);
    }
    let solved = eliminate(normal)?;
    if solved.iter().any(|value| *value < 0.0) {
        return None;
    }
    let mut coefficients = vec![0.0; columns];
    for (column, value) in chosen.iter().zip(&solved) {
        coefficients[*column] = *value;
    }
    let error = |(row, wanted): (&Vec<f64>, &f64)| {
        let told: f64 = coefficients.iter().enumerate().map(|(column, value)| value * at(row, column)).sum();
        (told - wanted) * (told - wanted)
    };
    let residual = rows.iter().zip(wanted).map(error).sum();
    Some(Solution { coefficients, residual, columns: set.count_ones() })
}

/// Columns that differ by less than this part of them are taken as dependent.
const SINGULAR: f64 = 1e-10;

/// Gauss with pivots, on equations with their right side as last column.
fn eliminate(mut lines: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let count = lines.len();
    let scale: Vec<f64> = (0..count).map(|at| lines[at][at]).collect();
    for at in 0..count {
        let pivot = (at..count).max_by(|a, b| lines[*a][at].abs().total_cmp(&lines[*b][at].abs()))?;
        lines.swap(at, pivot);
        if lines[at][at].abs() <= SINGULAR * scale[at] {
            return None;
        }
        let line = lines[at].clone();
        for below in lines.iter_mut().skip(at + 1) {
            let factor = below[at] / line[at];
            below.iter_mut().zip(&line).for_each(|(value, from)| *value -= factor * from);
        }
    }
    let mut solved = vec![0.0; count];
    for at in (0..count).rev() {
        let known: f64 = (at + 1..count).map(|later| lines[at][later] * solved[later]).sum();
        solved[at] = (lines[at][count] - known) / lines[at][at];
    }
    Some(solved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Solution, solutions};

    fn best(rows: &[Vec<f64>], wanted: &[f64]) -> Solution {
        let all = solutions(rows, wanted);
        all.into_iter().min_by(|a, b| a.residual.total_cmp(&b.residual)).expect("the empty set is one")
    }

    #[test]
    fn finds_what_made_the_numbers() {
        let rows: Vec<Vec<f64>> = (1..9).map(f64::from).map(|n| vec![1.0, 1.0 / n, n.ln(), n]).collect();
        let made: Vec<f64> = rows.iter().map(|row| 2.0 + 30.0 * row[1] + 0.5 * row[3]).collect();
        let solution = best(&rows, &made);
        for (found, wanted) in solution.coefficients.iter().zip([2.0, 30.0, 0.0, 0.5]) {
            assert!((found - wanted).abs() < 1e-6, "{:?}", solution.coefficients);
        }
    }

    #[test]
    fn a_negative_slope_becomes_none() {
        let rows = [vec![1.0, 1.0], vec![1.0, 2.0], vec![1.0, 3.0]];
        let solution = best(&rows, &[3.0, 2.0, 1.0]);
        assert!((solution.coefficients[0] - 2.0).abs() < 1e-9 && solution.coefficients[1] < 1e-9);
    }

    #[test]
    fn dependent_columns_and_no_rows_are_no_trouble() {
        let rows = [vec![1.0, 2.0], vec![2.0, 4.0]];
        assert!(best(&rows, &[1.0, 2.0]).residual < 1e-12);
        assert!(best(&[], &[]).residual < 1e-12);
    }

    proptest! {
        /// At the solution no coefficient can go either way it may and do better.
        #[test]
        fn no_allowed_step_helps(
            values in prop::collection::vec((-3.0_f64..3.0, -3.0_f64..3.0, -3.0_f64..3.0, -9.0_f64..9.0), 3..8),
        ) {
            let rows: Vec<Vec<f64>> = values.iter().map(|(a, b, c, _)| vec![*a, *b, *c]).collect();
            let wanted: Vec<f64> = values.iter().map(|(_, _, _, wanted)| *wanted).collect();
            let solution = best(&rows, &wanted);
            let cost = |at: &[f64]| -> f64 {
                let told = |row: &Vec<f64>| row.iter().zip(at).map(|(a, b)| a * b).sum::<f64>();
                rows.iter().zip(&wanted).map(|(row, wanted)| (told(row) - wanted).powi(2)).sum()
            };
            for column in 0..3 {
                for step in [-0.01, 0.01] {
                    let mut moved = solution.coefficients.clone();
                    moved[column] += step;
                    if moved[column] >= 0.0 {
                        prop_assert!(cost(&moved) >= solution.residual - 1e-6);
                    }
                }
            }
        }
    }
}
