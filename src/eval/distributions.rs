//! The few tail probabilities that the tests and intervals of [`super::paired`] need: binomial with
//! p = 1/2, and Student's t.

/// `P(X <= most)` for X binomial with `n` trials of probability 1/2.
pub fn fair_coin_at_most(most: u64, n: u64) -> f64 {
    if most >= n {
        return 1.0;
    }
    // From the largest term down: each is the one above it times k / (n - k + 1).
    let ln_choose = ln_gamma(n as f64 + 1.0) - ln_gamma(most as f64 + 1.0) - ln_gamma((n - most) as f64 + 1.0);
    let first = (ln_choose - n as f64 * std::f64::consts::LN_2).exp();
    let (mut term, mut sum) = (1.0, 1.0);
    for k in (1..=most).rev() {
        term *= k as f64 / (n - k + 1) as f64;
        sum += term;
        if term < 1e-18 * sum {
            break;
        }
    }
    (first * sum).min(1.0)
}

/// Two-sided exact p-value of `few` against `many` in the number of heads and tails of a fair coin.
pub fn fair_coin_two_sided(few: u64, many: u64) -> f64 {
    (2.0 * fair_coin_at_most(few.min(many), few + many)).min(1.0)
}

/// The number that |T| stays below with probability `level`, T having `freedom` degrees of freedom;
/// infinite for 0.
pub fn student_two_sided(level: f64, freedom: u64) -> f64 {
    if freedom == 0 || level >= 1.0 {
        return f64::INFINITY;
    }
    let freedom = freedom as f64;
    // P(|T| > t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2).
    let outside = |t: f64| incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    let (mut low, mut high) = (0.0, 1.0);
    while outside(high) > 1.0 - level && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if outside(middle) > 1.0 - level { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Natural logarithm of the gamma function, x > 0: Stirling's series, shifted to where it is exact
/// in f64.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 15.0 {
        below += x.ln();
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

/// The regularised incomplete beta function by its continued fraction (Lentz's method).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast on this side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let guard = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guard(1.0 + numerator * d);
            c = guard(1.0 + numerator / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}
