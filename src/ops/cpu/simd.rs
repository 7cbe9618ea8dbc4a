//! One body per kernel, compiled for each instruction set and chosen at run time.
//!
//! A kernel is written as plain loops over slices that the compiler turns into vector code.
//! `kernel!` compiles the same body with AVX-512, with AVX2 and FMA, and for the target's
//! baseline (NEON on aarch64), so no arithmetic is written twice and no intrinsic is needed.

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdLevel {
    /// The baseline of the target.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL.
    Avx512,
}

impl SimdLevel {
    /// All levels, lowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The highest level of this machine.
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|level| level.is_available()).unwrap_or(Self::Portable)
    }

    /// The level's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// A level that this machine was found to have. `kernel!` needs this proof to run its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(SimdLevel);

impl Simd {
    /// `None` when this machine lacks the level.
    pub fn new(level: SimdLevel) -> Option<Self> {
        level.is_available().then_some(Self(level))
    }

    /// The highest level of this machine.
    pub fn detect() -> Self {
        Self(SimdLevel::detect())
    }

    /// The level.
    pub fn level(self) -> SimdLevel {
        self.0
    }
}

/// How `a * b + c` is computed: fused where the instruction exists, because `f32::mul_add` is a
/// slow library call where it does not.
pub trait Arithmetic {
    /// `a * b + c`.
    fn madd(a: f32, b: f32, c: f32) -> f32;
}

/// One rounding.
pub enum Fused {}

/// Two roundings.
pub enum Plain {}

impl Arithmetic for Fused {
    #[inline(always)]
    fn madd(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Arithmetic for Plain {
    #[inline(always)]
    fn madd(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// The arithmetic of [`SimdLevel::Portable`].
#[cfg(target_arch = "aarch64")]
pub type Baseline = Fused;
/// The arithmetic of [`SimdLevel::Portable`].
#[cfg(not(target_arch = "aarch64"))]
pub type Baseline = Plain;

/// Define `fn name(simd: Simd, ...)` from `fn name<A>(...)`, whose body may use [`Arithmetic`]
/// through `A`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$A:ident>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(simd: $crate::ops::cpu::simd::Simd, $($arg: $type),*) $(-> $out)? {
            use $crate::ops::cpu::simd::{Arithmetic, Baseline, SimdLevel};
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<$A: Arithmetic>($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $out)? {
                body::<$crate::ops::cpu::simd::Fused>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $out)? {
                body::<$crate::ops::cpu::simd::Fused>($($arg),*)
            }

            match simd.level() {
                // SAFETY: a `Simd` exists only for a level whose features were detected on this machine.
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(not(target_arch = "x86_64"))]
                SimdLevel::Avx512 | SimdLevel::Avx2 => body::<Baseline>($($arg),*),
                SimdLevel::Portable => body::<Baseline>($($arg),*),
            }
        }
    };
}
pub(crate) use kernel;
