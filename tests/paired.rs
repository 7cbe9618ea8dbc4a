//! Paired tests and intervals: compared with fractions computed by hand, and with scipy 1.17's
//! values where no short fraction exists.

use biorel::corpus::Task;
use biorel::eval::paired::{
    Comparison, Counted, Decisions, bootstrap, mcnemar, mcnemar_by_unit, sign_test, t_interval,
};
use proptest::prelude::*;

fn task() -> Task {
    Task::new("ppi", vec!["negative".into(), "positive".into()], Some("negative")).expect("task")
}

fn decided(labels: &[usize]) -> Decisions {
    labels.iter().copied().map(Some).collect()
}

fn assert_close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{actual} instead of {expected}");
}

/// `first` instances that only the first model classifies correctly, `second` that only the second
/// does, `both` that both do.
fn of_counts(first: usize, second: usize, both: usize) -> Counted {
    let n = first + second + both;
    let gold = vec![1; n];
    let a: Vec<usize> = (0..n).map(|i| usize::from(!(first..first + second).contains(&i))).collect();
    let b: Vec<usize> = (0..n).map(|i| usize::from(i >= first)).collect();
    mcnemar(&task(), &gold, &decided(&a), &decided(&b)).expect("counted")
}

#[test]
fn mcnemar_is_the_exact_binomial() {
    // 2 (C(10,0) + C(10,1)) / 2^10.
    let counted = of_counts(1, 9, 5);
    assert_eq!((counted.first, counted.second, counted.ties), (1, 9, 5));
    assert_close(counted.p, 22.0 / 1024.0);
    assert_close(counted.least_p(), 2.0 / 1024.0);
    assert_close(of_counts(0, 5, 0).p, 2.0 / 32.0);
    assert_close(of_counts(3, 3, 0).p, 1.0);
    assert_close(of_counts(0, 0, 7).p, 1.0);
    // 2 (1 + 12 + 66 + 220) / 2^12.
    assert_close(of_counts(9, 3, 1).p, 598.0 / 4096.0);
    // scipy.stats.binomtest(90, 220) and binomtest(4812, 9800): no overflow, and no loss in the sums.
    assert!((of_counts(130, 90, 3).p - 0.008_405_451_752_681_935).abs() < 1e-13);
    assert!((of_counts(4812, 4988, 3).p - 0.077_094_529_208_899_2).abs() < 1e-10);
}

/// Units of one instance give McNemar's p; equal instances of one unit are one piece of evidence,
/// not many.
#[test]
fn mcnemar_by_unit_exchanges_whole_units() {
    let (first, second) = (decided(&[1; 12]), decided(&[[0; 9].as_slice(), &[1; 3]].concat()));
    let (gold, task) = ([1; 12], task());
    let mut gold = gold.to_vec();
    // Nine that only the first classifies correctly, three that only the second does.
    gold[9..].fill(0);
    let first: Decisions = first.into_iter().enumerate().map(|(i, one)| if i < 9 { one } else { Some(1) }).collect();
    let second: Decisions = second.into_iter().enumerate().map(|(i, one)| if i < 9 { one } else { Some(0) }).collect();
    let test = |unit: &[usize]| {
        let (first, second) = ([first.clone()], [second.clone()]);
        let comparison = Comparison { task: &task, gold: &gold, first: &first, second: &second, unit };
        mcnemar_by_unit(&comparison, 40_000, 1).expect("tested")
    };
    let single = test(&(0..12).collect::<Vec<_>>());
    assert_eq!((single.first, single.second, single.ties), (9, 3, 0));
    // 598 / 4096 by the binomial; the standard deviation of the share of 40,000 is 0.0018.
    assert!((single.p - 598.0 / 4096.0).abs() < 0.007, "{}", single.p);
    // Three documents: 9 to 0, 0 to 2, 0 to 1. Of the eight sign changes six are at least as extreme as 6.
    let documents = test(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
    assert_eq!((documents.first, documents.second, documents.ties), (1, 2, 0));
    assert!((documents.p - 1.0).abs() < 1e-12, "{}", documents.p);
    assert!((documents.least_p() - 0.25).abs() < 1e-12);
    let comparison = Comparison { task: &task, gold: &gold, first: &[first], second: &[second], unit: &[0; 12] };
    assert!(mcnemar_by_unit(&comparison, 0, 1).is_err());
    assert!(mcnemar_by_unit(&Comparison { unit: &[0], ..comparison }, 10, 1).is_err());
}

#[test]
fn a_dropped_instance_counts_as_no_relation() {
    let gold = [0, 1, 1];
    let counted = mcnemar(&task(), &gold, &vec![None, None, Some(1)], &decided(&[1, 1, 1])).expect("counted");
    assert_eq!((counted.first, counted.second, counted.ties), (1, 1, 1));
    assert!(mcnemar(&task(), &gold, &vec![None], &decided(&[1, 1, 1])).is_err());
}

#[test]
fn the_sign_test_leaves_ties_out() {
    let first = [0.8, 0.7, 0.9, 0.6, 0.5, 0.5, 0.7, 0.8, 0.9, 0.4];
    let second = [0.7, 0.6, 0.8, 0.5, 0.4, 0.5, 0.6, 0.9, 0.8, 0.3];
    let counted = sign_test(&first, &second).expect("counted");
    assert_eq!((counted.first, counted.second, counted.ties), (8, 1, 1));
    // 2 (1 + 9) / 2^9.
    assert_close(counted.p, 20.0 / 512.0);
    // With five folds nothing can be below 0.05.
    let five = sign_test(&first[..5], &second[..5]).expect("counted");
    assert_close(five.p, 0.0625);
    assert_close(five.least_p(), 0.0625);
    assert!(sign_test(&first, &second[..5]).is_err());
    assert!(sign_test(&[f64::NAN], &[0.0]).is_err());
}

#[test]
fn t_intervals_have_students_quantiles() {
    // One degree of freedom is the Cauchy distribution: the 97.5 % quantile is tan(0.475 pi). Mean 1, sd sqrt 2, n 2.
    let [low, high] = t_interval(&[0.0, 2.0], 0.95).expect("interval");
    let half = (0.475 * std::f64::consts::PI).tan();
    assert!((high - (1.0 + half)).abs() < 1e-9 && (low - (1.0 - half)).abs() < 1e-9, "{low} {high}");
    // Two degrees: t = 2 (p - 1/2) sqrt(2 / (4 p (1 - p))), p = 0.975. Mean 2, sd 1, n 3.
    let [_, high] = t_interval(&[1.0, 2.0, 3.0], 0.95).expect("interval");
    let t = 0.95 * (2.0_f64 / (4.0 * 0.975 * 0.025)).sqrt();
    assert!((high - (2.0 + t / 3.0_f64.sqrt())).abs() < 1e-9, "{high}");
    // scipy.stats.t.ppf(0.975, 9); ten values of mean 0 and sum of squares 90, so that sd is sqrt 10 and half is t.
    let ten = [3.0, -3.0, 3.0, -3.0, 3.0, -3.0, 3.0, -3.0, 3.0, -3.0];
    let [low, high] = t_interval(&ten, 0.95).expect("interval");
    assert!((high - T_9).abs() < 1e-9 && (low + T_9).abs() < 1e-9, "{high}");
    // scipy.stats.t.ppf(0.995, 4); mean 0, sum of squares 20, so sd is sqrt 5 and half is t.
    let [_, high] = t_interval(&[10.0_f64.sqrt(), -(10.0_f64.sqrt()), 0.0, 0.0, 0.0], 0.99).expect("interval");
    assert!((high - 4.604_094_871_349_992).abs() < 1e-9, "{high}");
    assert_eq!(t_interval(&[0.5], 0.95), None);
    assert_eq!(t_interval(&[], 0.95), None);
}

/// scipy.stats.t.ppf(0.975, 9).
const T_9: f64 = 2.262_157_162_798_205;

/// Three instances; all 27 samples are equally likely, so the p-value and the interval can be
/// listed.
#[test]
fn the_bootstrap_equals_an_exhaustive_list_of_samples() {
    let task = task();
    // The first is right on all; the second misses one of the two positives and is right on the negative.
    let (gold, unit) = ([1, 1, 0], [0, 1, 2]);
    let (first, second) = ([decided(&[1, 1, 0])], [decided(&[1, 0, 0])]);
    let comparison = Comparison { task: &task, gold: &gold, first: &first, second: &second, unit: &unit };
    let found = bootstrap(&comparison, 40_000, 0.9, 1).expect("bootstrap");
    assert_eq!(found.units, 3);
    assert_close(found.first, 1.0);
    assert_close(found.second, 2.0 / 3.0);
    // By hand, over the 27 samples with i, j, k copies of the three: F1 of the first is 1 unless i + j = 0; that of the
    // second is 2i / (2i + j).
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    let observed = 1.0 / 3.0;
    let mut far = 0.0;
    for i in 0..=3_u32 {
        for j in 0..=3 - i {
            let ways = factorial(3) / (factorial(i) * factorial(j) * factorial(3 - i - j));
            let second = if i == 0 { 0.0 } else { 2.0 * f64::from(i) / f64::from(2 * i + j) };
            let difference = if i + j == 0 { 0.0 } else { 1.0 - second };
            if (difference - observed).abs() >= observed - 1e-12 {
                far += ways / 27.0;
            }
        }
    }
    // Five standard errors of a share.
    assert!((found.p - far).abs() < 5.0 * (far * (1.0 - far) / 40_000.0).sqrt(), "{} instead of {far}", found.p);
    // Differences and ways: 0 in 8 of 27 (j = 0), 1/5 in 3, 1/3 in 6, 1/2 in 3, 1 in 7.
    assert_eq!(found.interval, [0.0, 1.0]);
    let middle = bootstrap(&comparison, 40_000, 0.1, 1).expect("bootstrap").interval;
    assert!((middle[0] - 1.0 / 3.0).abs() < 1e-12 && (middle[1] - 1.0 / 3.0).abs() < 1e-12, "{middle:?}");
    // The same seed gives the same samples, another seed does not.
    assert_eq!(bootstrap(&comparison, 500, 0.9, 7).expect("a"), bootstrap(&comparison, 500, 0.9, 7).expect("b"));
    assert_ne!(bootstrap(&comparison, 500, 0.9, 7).expect("a").p, bootstrap(&comparison, 500, 0.9, 8).expect("b").p);
}

#[test]
fn equal_models_do_not_differ_and_different_ones_do() {
    let task = task();
    let gold: Vec<usize> = (0..200).map(|i| i % 2).collect();
    let unit: Vec<usize> = (0..200).collect();
    let wrong: Vec<usize> = gold.iter().enumerate().map(|(i, label)| if i < 80 { 1 - label } else { *label }).collect();
    let compare = |first: &[Decisions], second: &[Decisions]| {
        let comparison = Comparison { task: &task, gold: &gold, first, second, unit: &unit };
        bootstrap(&comparison, 999, 0.95, 3).expect("bootstrap")
    };
    let same = compare(&[decided(&gold)], &[decided(&gold)]);
    assert_eq!((same.p, same.interval), (1.0, [0.0, 0.0]));
    let far = compare(&[decided(&gold)], &[decided(&wrong)]);
    assert_close(far.p, 1.0 / 1000.0);
    assert!(far.interval[0] > 0.2);
    // Dropped positives are misses: 60 of 100 found, none wrongly, F1 = 120 / 160.
    let dropped: Decisions = (0..200).map(|i| (i >= 80).then_some(gold[i])).collect();
    assert_close(compare(&[dropped], &[decided(&gold)]).first, 0.75);
}

#[test]
fn invalid_comparisons_are_refused() {
    let task = task();
    let refused = |gold: &[usize], first: &[Decisions], unit: &[usize], samples: usize, confidence_level: f64| {
        let second = [decided(&[0, 1])];
        let comparison = Comparison { task: &task, gold, first, second: &second, unit };
        bootstrap(&comparison, samples, confidence_level, 1).expect_err("refused").to_string()
    };
    let good = [decided(&[0, 1])];
    assert!(refused(&[0, 1], &good, &[0, 1], 0, 0.95).starts_with("samples"));
    assert!(refused(&[0, 1], &good, &[0, 1], 10, 1.0).starts_with("confidence_level"));
    assert!(refused(&[0, 1], &good, &[0, 0], 10, 0.95).starts_with("unit"));
    assert!(refused(&[0, 1], &good, &[0, 9], 10, 0.95).starts_with("unit"));
    assert!(refused(&[0, 1], &good, &[0], 10, 0.95).starts_with("predicted"));
    assert!(refused(&[0, 1], &[decided(&[0])], &[0, 1], 10, 0.95).starts_with("predicted"));
    assert!(refused(&[0, 1], &[decided(&[0, 2])], &[0, 1], 10, 0.95).starts_with("predicted"));
    assert!(refused(&[0, 3], &good, &[0, 1], 10, 0.95).starts_with("gold"));
    assert!(refused(&[0, 1], &[], &[0, 1], 10, 0.95).starts_with("predicted"));
    assert!(refused(&[], &[vec![]], &[], 10, 0.95).contains(':'));
}

proptest! {
    /// Swapping the sides changes the signs and not p.
    #[test]
    fn the_sides_can_be_swapped(rows in prop::collection::vec((0_usize..2, 0_usize..2, 0_usize..2), 2..40)) {
        let task = task();
        let gold: Vec<usize> = rows.iter().map(|row| row.0).collect();
        let a = [decided(&rows.iter().map(|row| row.1).collect::<Vec<_>>())];
        let b = [decided(&rows.iter().map(|row| row.2).collect::<Vec<_>>())];
        let unit: Vec<usize> = (0..rows.len()).collect();
        let there = Comparison { task: &task, gold: &gold, first: &a, second: &b, unit: &unit };
        let back = Comparison { first: &b, second: &a, ..there.clone() };
        let (there, back) = (bootstrap(&there, 99, 0.9, 5).expect("a"), bootstrap(&back, 99, 0.9, 5).expect("b"));
        prop_assert_eq!(there.p, back.p);
        prop_assert!((there.interval[0] + back.interval[1]).abs() < 1e-12);
        prop_assert!(there.p > 0.0 && there.p <= 1.0);
        let (there, back) = (mcnemar(&task, &gold, &a[0], &b[0]).expect("a"), mcnemar(&task, &gold, &b[0], &a[0]).expect("b"));
        prop_assert_eq!((there.first, there.second, there.p), (back.second, back.first, back.p));
    }
}
