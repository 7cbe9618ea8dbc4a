use super::*;
use crate::rng::{Purpose, Stream};

/// Numbers that bf16 represents exactly, so that only the order of the sums differs.
fn exact(stream: &mut Stream, n: usize) -> Vec<f32> {
    (0..n).map(|_| f32::from_bits((stream.normal() as f32).to_bits() & 0xffff_0000)).collect()
}

fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns * rows).map(|at| x[at % rows * columns + at / rows]).collect()
}

/// The instruction sets of this machine, and AMX wherever it can be emulated.
fn isas() -> impl Iterator<Item = Bf16Isa> {
    Bf16Isa::ALL.into_iter().filter(|isa| isa.is_available() || (*isa == Bf16Isa::Amx && amx_emulated()))
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_emulated() -> bool {
    super::amx_emulator::install()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn amx_emulated() -> bool {
    false
}

/// Every unit of [`units`], every orientation of both operands and every initial value, compared
/// with sums in f64, up to the rounding of f32 sums; sizes with whole tiles, parts of tiles and
/// single numbers.
#[test]
fn products_of_all_orientations_equal_sums_in_f64() {
    let sizes =
        [(1, 1, 1), (3, 5, 7), (16, 32, 16), (17, 33, 15), (40, 64, 100), (33, 500, 49), (150, 96, 384), (1, 384, 70)];
    let pool = Pool::default();
    let simd = Simd::detect();
    for isa in isas() {
        let products = Bf16Matmul { isa, simd };
        for (case, (rows, inner, columns)) in sizes.into_iter().enumerate() {
            let mut stream = Stream::new(7, Purpose::Sample, case as u32);
            let a = exact(&mut stream, rows * inner);
            let b = exact(&mut stream, inner * columns);
            let there = exact(&mut stream, rows * columns);
            let shared = exact(&mut stream, columns);
            let (a_t, b_t) = (transposed(&a, rows, inner), transposed(&b, inner, columns));
            let lefts = [
                products.left(&pool, Matrix::new(&a, rows, inner)),
                products.left_transposed(&pool, Matrix::new(&a_t, inner, rows)),
            ];
            let rights = [
                products.right(&pool, Matrix::new(&b, inner, columns)),
                products.right_transposed(&pool, Matrix::new(&b_t, columns, inner)),
            ];
            for (left, right) in lefts.iter().flat_map(|left| rights.iter().map(move |right| (left, right))) {
                for start in [Start::Zero, Start::Bias(&shared), Start::Accumulate] {
                    let mut out = there.clone();
                    products.matmul(&mut out, left, right, start);
                    for (at, value) in out.iter().enumerate() {
                        let (row, column) = (at / columns, at % columns);
                        let from = match start {
                            Start::Zero => 0.0,
                            Start::Bias(shared) => f64::from(shared[column]),
                            Start::Accumulate => f64::from(there[at]),
                        };
                        let terms =
                            (0..inner).map(|k| f64::from(a[row * inner + k]) * f64::from(b[k * columns + column]));
                        let (sum, size) =
                            terms.fold((from, from.abs()), |(sum, size), term| (sum + term, size + term.abs()));
                        let difference = (f64::from(*value) - sum).abs();
                        assert!(difference <= 1e-6 * size, "{isa:?} {rows} {inner} {columns} {start:?}: {value} {sum}");
                    }
                }
            }
        }
    }
}

/// Rounding is to nearest, ties to even; infinities and NaN are unchanged.
#[test]
fn factors_are_rounded_to_nearest_even() {
    let pool = Pool::default();
    let simd = Simd::detect();
    let products = Bf16Matmul::new(Bf16Isa::Portable, simd).unwrap();
    // 1 + 2^-8 lies between the bf16 numbers 1 and 1 + 2^-7, and 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
    let cases = [
        (1.0 + 2f32.powi(-8), 1.0),
        (1.0 + 3.0 * 2f32.powi(-8), 1.0 + 2f32.powi(-6)),
        (1.0 + 2f32.powi(-8) + 2f32.powi(-20), 1.0 + 2f32.powi(-7)),
        (-1.0 - 2f32.powi(-7), -1.0 - 2f32.powi(-7)),
        (f32::INFINITY, f32::INFINITY),
        (f32::MAX, f32::INFINITY),
    ];
    for (given, expected) in cases {
        let one = products.right(&pool, Matrix::new(&[1.0], 1, 1));
        let mut out = [0.0];
        products.matmul(&mut out, &products.left(&pool, Matrix::new(&[given], 1, 1)), &one, Start::Zero);
        assert_eq!(out[0], expected, "{given}");
    }
    let nan = f32::from_bits(0x7fff_ffff);
    let (low, _) = unpack(products.left(&pool, Matrix::new(&[nan], 1, 1)).block(0)[0]);
    assert!(low.is_nan());
}

/// The processor's own rounding packs the same bits as plain code; it takes numbers below 2^-126 as
/// zeros, and a NaN stays a NaN. Sizes with and without parts of tiles.
#[test]
fn rounding_in_hardware_equals_plain_code() {
    if !Bf16Isa::Avx512.is_available() {
        println!("skipped: this machine has no AVX-512-BF16");
        return;
    }
    let (pool, simd) = (Pool::default(), Simd::detect());
    let [plain, own] = [Bf16Isa::Portable, Bf16Isa::Avx512].map(|isa| Bf16Matmul::new(isa, simd).unwrap());
    for (case, (rows, columns)) in [(16, 32), (64, 64), (33, 100), (100, 130), (15, 31)].into_iter().enumerate() {
        let mut stream = Stream::new(8, Purpose::Sample, case as u32);
        // All bit patterns except NaN and subnormal numbers.
        let mut any = || match f32::from_bits(stream.next_u32()) {
            x if x.is_nan() || x.is_subnormal() => 1.0,
            x => x,
        };
        let mut values: Vec<f32> = (0..rows * columns).map(|_| any()).collect();
        values[..3].copy_from_slice(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), f32::MAX]);
        let x = Matrix::new(&values, rows, columns);
        let all = |products: Bf16Matmul| {
            [
                products.left(&pool, x),
                products.left_transposed(&pool, x),
                products.right(&pool, x),
                products.right_transposed(&pool, x),
            ]
            .map(|packed| packed.words.values().iter().map(|word| word.to_bits()).collect::<Vec<_>>())
        };
        assert!(all(own) == all(plain), "{rows} x {columns}");
    }
    let small = [f32::NAN, f32::from_bits(1)].repeat(256);
    let packed = own.left(&pool, Matrix::new(&small, 16, 32));
    let (low, high) = unpack(packed.block(0)[0]);
    assert!(low.is_nan() && high == 0.0);
}

/// The same bits from 1 to 7 threads.
#[test]
fn bits_do_not_depend_on_threads() {
    let (rows, inner, columns) = (300, 200, 500);
    let mut stream = Stream::new(7, Purpose::Sample, 99);
    let (a, b) = (exact(&mut stream, rows * inner), exact(&mut stream, inner * columns));
    for isa in isas() {
        let run = |threads: usize| {
            let workers = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            workers.install(|| {
                let pool = Pool::default();
                let products = Bf16Matmul { isa, simd: Simd::detect() };
                let left = products.left(&pool, Matrix::new(&a, rows, inner));
                let right = products.right(&pool, Matrix::new(&b, inner, columns));
                let mut out = vec![0.0; rows * columns];
                products.matmul(&mut out, &left, &right, Start::Zero);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            })
        };
        let one = run(1);
        for threads in 2..=7 {
            assert!(run(threads) == one, "{isa:?}, {threads} threads");
        }
    }
}
