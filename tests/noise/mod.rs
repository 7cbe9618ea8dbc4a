//! Numbers that a name determines, the same here and in `tests/golden/noise.py`, so that files need
//! not have them.

/// From 0 to below 1: SplitMix64, seeded with the name's FNV-1a.
pub fn uniform(name: &str, size: usize) -> Vec<f64> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = |index: u64| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    };
    (1..=size as u64).map(number).collect()
}
