//! Shapes of tensors and of the tensors that a model expects.

use std::fmt;

use smallvec::SmallVec;

/// Dimensions of a tensor, outermost first. A model's signature uses -1 for a variable dimension;
/// the shape of a [`crate::Tensor`] has none.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Shape(SmallVec<[i64; 4]>);

/// Why dimensions are not those of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A dimension is below zero.
    #[error("dimension {0} is negative")]
    Negative(i64),
    /// The product of the dimensions does not fit.
    #[error("the number of elements overflows")]
    Overflow,
}

impl Shape {
    /// A shape with these dimensions.
    pub fn new(dimensions: &[i64]) -> Shape {
        Shape(SmallVec::from_slice(dimensions))
    }

    /// The dimensions, outermost first.
    pub fn dimensions(&self) -> &[i64] {
        &self.0
    }

    pub(crate) fn dimensions_mut(&mut self) -> &mut [i64] {
        &mut self.0
    }

    /// Number of dimensions; 0 for a scalar.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The first dimension: rows, where a tensor has rows. `None` for a scalar.
    pub fn rows(&self) -> Option<i64> {
        self.0.first().copied()
    }

    /// Adds an innermost dimension.
    pub fn push(&mut self, dimension: i64) {
        self.0.push(dimension);
    }

    /// Whether a dimension is variable (-1).
    pub fn is_variable(&self) -> bool {
        self.0.contains(&-1)
    }

    /// Number of elements: the product of the dimensions, 1 for a scalar.
    ///
    /// # Errors
    /// [`ShapeError`] for a negative dimension, or a product above `isize::MAX`. A zero dimension does not excuse
    /// an overflow among the others.
    pub fn element_count(&self) -> Result<usize, ShapeError> {
        let mut count = 1_usize;
        let mut nonzero = 1_usize;
        for &dimension in &self.0 {
            let dimension = usize::try_from(dimension).map_err(|_| ShapeError::Negative(dimension))?;
            nonzero = nonzero
                .checked_mul(dimension.max(1))
                .ok_or(ShapeError::Overflow)?;
            count = if dimension == 0 {
                0
            } else {
                count.saturating_mul(dimension)
            };
        }
        if isize::try_from(nonzero).is_err() {
            return Err(ShapeError::Overflow);
        }
        Ok(count)
    }

    /// Whether a tensor of shape `actual` fits this pattern: same rank, and equal where this is not -1.
    pub fn accepts(&self, actual: &Shape) -> bool {
        self.rank() == actual.rank()
            && self
                .0
                .iter()
                .zip(&actual.0)
                .all(|(&pattern, &dimension)| pattern == -1 || pattern == dimension)
    }
}

impl From<&[i64]> for Shape {
    fn from(dimensions: &[i64]) -> Shape {
        Shape::new(dimensions)
    }
}

impl<const N: usize> From<[i64; N]> for Shape {
    fn from(dimensions: [i64; N]) -> Shape {
        Shape::new(&dimensions)
    }
}

impl From<Vec<i64>> for Shape {
    fn from(dimensions: Vec<i64>) -> Shape {
        Shape(SmallVec::from_vec(dimensions))
    }
}

impl FromIterator<i64> for Shape {
    fn from_iter<I: IntoIterator<Item = i64>>(dimensions: I) -> Shape {
        Shape(dimensions.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dimension) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{dimension}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_checked() {
        assert_eq!(Shape::from([]).element_count(), Ok(1));
        assert_eq!(Shape::from([2, 3]).element_count(), Ok(6));
        assert_eq!(Shape::from([3, 0, 2]).element_count(), Ok(0));
        assert_eq!(
            Shape::from([2, -1]).element_count(),
            Err(ShapeError::Negative(-1))
        );
        assert_eq!(
            Shape::from([i64::MAX, 3]).element_count(),
            Err(ShapeError::Overflow)
        );
        assert_eq!(
            Shape::from([0, i64::MAX, 3]).element_count(),
            Err(ShapeError::Overflow)
        );
        assert_eq!(
            Shape::from([i64::MAX, 2]).element_count(),
            Err(ShapeError::Overflow)
        );
    }

    #[test]
    fn patterns_accept_any_size_where_they_are_variable() {
        assert!(Shape::from([-1, 4]).accepts(&Shape::from([7, 4])));
        assert!(!Shape::from([-1, 4]).accepts(&Shape::from([7, 5])));
        assert!(!Shape::from([-1, 4]).accepts(&Shape::from([4])));
        assert_eq!(Shape::from([-1, 4]).to_string(), "[-1, 4]");
    }
}
