//! How improbable it is that a version as good as the one before it does so much worse.

/// The probability that `count` or more of `calls` are bad where `other_count` of `other_calls` are,
/// if there is no difference between the two: the upper tail of the hypergeometric distribution
/// (Fisher's exact test). Both samples may be small.
pub(super) fn of_so_many(count: u64, calls: u64, other_count: u64, other_calls: u64) -> f64 {
    let (k, n) = (as_f64(count), as_f64(calls));
    let (bad, others) = (as_f64(count) + as_f64(other_count), as_f64(other_calls));
    let mean = bad * n / (n + others);
    // So many are expected, or there cannot be fewer.
    if k <= mean || k <= bad - others {
        return 1.0;
    }
    // P(exactly k), and from there term by term: above the mean they vanish soon.
    let mut term =
        (ln_choose(n, k) + ln_choose(others, bad - k) - ln_choose(n + others, bad)).exp();
    let mut sum = 0.0;
    let mut i = k;
    for _ in 0..TERMS_MAX {
        sum += term;
        if i >= n.min(bad) || term < sum * PRECISION {
            break;
        }
        term *= (n - i) * (bad - i) / ((i + 1.0) * (others - bad + i + 1.0));
        i += 1.0;
    }
    sum.min(1.0)
}

const TERMS_MAX: usize = 1_000;
const PRECISION: f64 = 1e-6;

#[expect(clippy::cast_precision_loss, reason = "a probability need not be exact")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The logarithm of the number of ways to choose `k` of `n`.
fn ln_choose(n: f64, k: f64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// By Stirling's series, which is exact to nine digits from 10 on.
fn ln_factorial(n: f64) -> f64 {
    let mut x = n + 1.0;
    let mut smaller = 0.0;
    while x < 10.0 {
        smaller += x.ln();
        x += 1.0;
    }
    let series = (1.0 / 12.0 - 1.0 / (360.0 * x * x)) / x;
    (x - 0.5).mul_add(x.ln(), -x) + 0.5 * std::f64::consts::TAU.ln() + series - smaller
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fishers_test() {
        let is = |chance: f64, wanted: f64| {
            assert!((chance - wanted).abs() < wanted * 1e-6, "{chance}, {wanted}");
        };
        // 1 / C(20, 10).
        is(of_so_many(10, 10, 0, 10), 1.0 / 184_756.0);
        is(of_so_many(1, 1, 0, 99), 0.01);
        // (C(5,3) C(5,0) + C(5,2) C(5,1) of 3, the upper two terms) / C(10, 3).
        is(of_so_many(2, 5, 1, 5), (10.0 * 5.0 + 10.0) / 120.0);
        is(of_so_many(0, 10, 5, 10), 1.0);
        is(of_so_many(3, 10, 0, 0), 1.0);
        assert!(of_so_many(20, 1_000, 100, 1_000_000) < 1e-30);
    }
}
