//! Which rows go with which columns at the least cost? The linear sum assignment as scipy solves it, tie for tie: where several
//! assignments cost the same, scores of the reference tools depend on which one is taken.

/// Pairs of row and column, by row: as many as the shorter side has. `cost` is row-major.
///
/// # Panics
/// When a cost is not finite, or there are not `rows * columns` of them.
pub fn assign(rows: usize, columns: usize, cost: &Vec<f64>) -> Vec<(usize, usize)> {
    assert_eq!(cost.len(), rows * columns, "one cost per pair");
    let (rows, columns) = lsap::solve(rows, columns, cost, false).expect("finite costs");
    rows.into_iter().zip(columns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_side_may_be_longer_and_ties_go_scipys_way() {
        assert_eq!(assign(0, 3, &vec![]), []);
        assert_eq!(assign(1, 3, &vec![2.0, 1.0, 1.0]), [(0, 1)]);
        assert_eq!(assign(3, 1, &vec![2.0, 1.0, 1.0]), [(1, 0)]);
        // scipy.optimize.linear_sum_assignment of the same matrices.
        assert_eq!(assign(2, 2, &vec![0.0; 4]), [(0, 0), (1, 1)]);
        assert_eq!(assign(3, 2, &vec![1.0, 2.0, 2.0, 1.0, 1.0, 1.0]), [(0, 0), (1, 1)]);
        assert_eq!(assign(2, 3, &vec![3.0, 1.0, 2.0, 1.0, 1.0, 5.0]), [(0, 1), (1, 0)]);
    }
}
