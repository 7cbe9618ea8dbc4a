//! The tail probabilities of [`super::paired`]: binomial with p = 1/2, and Student's t.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// Two-sided p-value of the exact binomial test with p = 1/2.
pub fn binomial_test(successes: u64, failures: u64) -> f64 {
    let tail = Binomial::new(0.5, successes + failures).map_or(f64::NAN, |count| count.cdf(successes.min(failures)));
    (2.0 * tail).min(1.0)
}

/// Two-sided critical value of Student's t: |T| is below it with probability `confidence_level`;
/// infinite for 0 degrees of freedom.
pub fn student_critical_value(confidence_level: f64, freedom: u64) -> f64 {
    if freedom == 0 || confidence_level >= 1.0 {
        return f64::INFINITY;
    }
    StudentsT::new(0.0, 1.0, freedom as f64).map_or(f64::NAN, |t| t.inverse_cdf(0.5 + confidence_level / 2.0))
}
