//! The few tail probabilities that the tests and intervals of [`super::paired`] need: binomial with
//! p = 1/2, and Student's t.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// Two-sided exact p-value of `few` against `many` in the number of heads and tails of a fair coin.
pub fn fair_coin_two_sided(few: u64, many: u64) -> f64 {
    let at_most = Binomial::new(0.5, few + many).map_or(f64::NAN, |heads| heads.cdf(few.min(many)));
    (2.0 * at_most).min(1.0)
}

/// The number that |T| stays below with probability `level`, T having `freedom` degrees of freedom;
/// infinite for 0.
pub fn student_two_sided(level: f64, freedom: u64) -> f64 {
    if freedom == 0 || level >= 1.0 {
        return f64::INFINITY;
    }
    StudentsT::new(0.0, 1.0, freedom as f64).map_or(f64::NAN, |t| t.inverse_cdf(0.5 + level / 2.0))
}
