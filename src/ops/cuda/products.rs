//! How a matrix product is computed: with which algorithm of cuBLASLt, with or without the bias in
//! the same pass, or by cuBLAS. Pure decisions over the answers of a [`Planner`], so that they are
//! tested without a GPU.
//!
//! Batches of random sentences have a new number of tokens in nearly every step, and choosing an
//! algorithm costs more than a small product. So it is chosen for the number of tokens rounded up
//! to [`ROUND`], and only checked for the exact one. The result is a function of the product alone,
//! whatever was computed before: the order of a sum must not depend on the history.

use super::device::{Dtype, Gemm};

/// The extent that tokens run along is rounded up to this where an algorithm is chosen.
const ROUND: usize = 64;

/// The largest alignment that cuBLASLt distinguishes.
const ALIGNMENT: usize = 256;

/// The properties of a product that its plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Product {
    /// m, n and k.
    pub extents: [usize; 3],
    /// Of A and B.
    pub transposed: [bool; 2],
    /// Of the inputs and the output.
    pub elements: [Dtype; 2],
    pub bias: bool,
    pub onto: bool,
    /// Bytes that divide the addresses of all rows of A, B, `onto` and the output.
    pub alignment: [u32; 4],
}

impl Product {
    pub fn new(gemm: &Gemm) -> Self {
        let Gemm { m, n, k, a, b, inputs, output, out, onto, bias } = *gemm;
        let [a_row, b_row] = [if a.transposed { m } else { k }, if b.transposed { k } else { n }];
        // The largest power of two that divides the address of every row. A length of rows that breaks the alignment of the
        // first one excludes the algorithms that need it.
        let alignment = |address: u64, row: usize, element: Dtype| {
            let of = |x: u64| 1 << x.trailing_zeros().min(ALIGNMENT.trailing_zeros());
            of(address | (row * element.bytes()) as u64)
        };
        Self {
            extents: [m, n, k],
            transposed: [a.transposed, b.transposed],
            elements: [inputs, output],
            bias: bias.is_some(),
            onto: onto.is_some(),
            alignment: [
                alignment(a.address, a_row, inputs),
                alignment(b.address, b_row, inputs),
                alignment(onto.unwrap_or(out), n, output),
                alignment(out, n, output),
            ],
        }
    }

    /// The product that the algorithm is chosen for. Only extents that are the length of no row are
    /// rounded: m where A is not transposed, k where A is and B is not. Those are the numbers of
    /// tokens, and the alignment of rows stays.
    fn rounded(self) -> Self {
        let [m, n, k] = self.extents;
        let extents = match self.transposed {
            [false, _] => [m.next_multiple_of(ROUND), n, k],
            [true, false] => [m, n, k.next_multiple_of(ROUND)],
            [true, true] => [m, n, k],
        };
        Self { extents, ..self }
    }
}

/// What a library says about products.
pub(super) trait Planner {
    type Algorithm: Copy;
    type Error;

    /// The best algorithm; `None` if the library supports none.
    fn choose(&mut self, product: &Product) -> Result<Option<Self::Algorithm>, Self::Error>;

    /// Whether an algorithm that was chosen for another product computes this one, in the workspace
    /// that there is.
    fn check(&mut self, product: &Product, algorithm: &Self::Algorithm) -> Result<bool, Self::Error>;
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method<A> {
    /// By cuBLASLt, with the bias if there is one.
    Whole(A),
    /// By cuBLASLt; a kernel of ours adds the bias.
    WithoutBias(A),
    /// By cuBLAS, whose algorithms have no plan; a kernel of ours adds the bias.
    Unplanned,
}

/// The first of these that is supported: an algorithm for the rounded product that also computes
/// the exact one, an algorithm for the exact one, both again without the bias, and cuBLAS.
pub(super) fn decide<P: Planner>(planner: &mut P, product: &Product) -> Result<Method<P::Algorithm>, P::Error> {
    if let Some(algorithm) = algorithm(planner, product)? {
        return Ok(Method::Whole(algorithm));
    }
    if product.bias
        && let Some(algorithm) = algorithm(planner, &Product { bias: false, ..*product })?
    {
        return Ok(Method::WithoutBias(algorithm));
    }
    Ok(Method::Unplanned)
}

fn algorithm<P: Planner>(planner: &mut P, product: &Product) -> Result<Option<P::Algorithm>, P::Error> {
    let rounded = product.rounded();
    if rounded != *product
        && let Some(algorithm) = planner.choose(&rounded)?
        && planner.check(product, &algorithm)?
    {
        return Ok(Some(algorithm));
    }
    planner.choose(product)
}

#[cfg(test)]
mod tests {
    use super::super::device::Operand;
    use super::*;

    /// Tokens, outputs and inputs of `y = x Wᵀ + b` in bf16.
    fn gemm(m: usize, n: usize, k: usize) -> Gemm {
        let [a, b] = [(1 << 20, false), (1 << 21, true)].map(|(address, transposed)| Operand { address, transposed });
        Gemm { m, n, k, a, b, inputs: Dtype::Bf16, out: 1 << 22, output: Dtype::Bf16, onto: None, bias: Some(1 << 23) }
    }

    fn product(m: usize, n: usize, k: usize) -> Product {
        Product::new(&gemm(m, n, k))
    }

    /// A library that answers by rules and records the questions.
    struct Library {
        supports: fn(&Product) -> bool,
        checks: bool,
        chosen: Vec<Product>,
    }

    impl Planner for Library {
        /// The number of tokens that it was chosen for.
        type Algorithm = usize;
        type Error = &'static str;

        fn choose(&mut self, product: &Product) -> Result<Option<usize>, &'static str> {
            self.chosen.push(*product);
            Ok((self.supports)(product).then_some(product.extents[0]))
        }

        fn check(&mut self, _: &Product, _: &usize) -> Result<bool, &'static str> {
            Ok(self.checks)
        }
    }

    fn decided(supports: fn(&Product) -> bool, checks: bool, product: &Product) -> (Method<usize>, usize) {
        let mut library = Library { supports, checks, chosen: Vec::new() };
        let method = decide(&mut library, product).unwrap();
        (method, library.chosen.len())
    }

    #[test]
    fn the_algorithm_is_that_of_the_rounded_number_of_tokens() {
        for tokens in [1_usize, 1473, 1500, 1536] {
            let rounded = tokens.next_multiple_of(ROUND);
            assert_eq!(decided(|_| true, true, &product(tokens, 768, 768)), (Method::Whole(rounded), 1), "{tokens}");
        }
        // What was computed before changes nothing.
        let mut library = Library { supports: |_| true, checks: true, chosen: Vec::new() };
        for tokens in [1400, 1500, 1450, 1500] {
            let method = decide(&mut library, &product(tokens, 768, 768)).unwrap();
            assert_eq!(method, Method::Whole(tokens.next_multiple_of(ROUND)));
        }
    }

    #[test]
    fn an_algorithm_that_fails_its_check_is_chosen_for_the_exact_number() {
        assert_eq!(decided(|_| true, false, &product(1500, 768, 768)), (Method::Whole(1500), 2));
        let exact_only = |product: &Product| !product.extents[0].is_multiple_of(ROUND);
        assert_eq!(decided(exact_only, true, &product(1500, 768, 768)), (Method::Whole(1500), 2));
    }

    #[test]
    fn without_support_the_bias_is_separate_and_then_cublas_computes() {
        let without_bias = |product: &Product| !product.bias;
        assert_eq!(decided(without_bias, true, &product(1, 1, 1)), (Method::WithoutBias(64), 3));
        assert_eq!(decided(|_| false, true, &product(1, 1, 1)), (Method::Unplanned, 4));
        let no_bias = Product::new(&Gemm { bias: None, ..gemm(1, 1, 1) });
        assert_eq!(decided(|_| false, true, &no_bias), (Method::Unplanned, 2));
    }

    #[test]
    fn other_errors_are_not_answers() {
        struct Broken;
        impl Planner for Broken {
            type Algorithm = ();
            type Error = &'static str;
            fn choose(&mut self, _: &Product) -> Result<Option<()>, &'static str> {
                Err("not initialized")
            }
            fn check(&mut self, _: &Product, (): &()) -> Result<bool, &'static str> {
                Ok(true)
            }
        }
        assert_eq!(decide(&mut Broken, &product(1, 1, 1)), Err("not initialized"));
    }

    /// The number of tokens is rounded in each use of the table of `Gemm`, and no length of rows.
    #[test]
    fn only_numbers_of_tokens_are_rounded() {
        let rounded =
            |extents: [usize; 3], transposed| Product { extents, transposed, ..product(1, 1, 1) }.rounded().extents;
        assert_eq!(rounded([100, 20, 30], [false, true]), [128, 20, 30], "y = x Wᵀ");
        assert_eq!(rounded([100, 30, 20], [false, false]), [128, 30, 20], "dx = dy W");
        assert_eq!(rounded([20, 30, 100], [true, false]), [20, 30, 128], "dW = dyᵀ x");
        assert_eq!(rounded([20, 30, 100], [true, true]), [20, 30, 100], "every extent is a length of rows");
    }

    #[test]
    fn rows_that_break_the_alignment_count() {
        assert_eq!(product(5, 768, 384).alignment, [256, 256, 256, 256]);
        // 100 inputs are 200 bytes, and 3 outputs 6.
        assert_eq!(product(5, 3, 100).alignment, [8, 8, 2, 2]);
        let later = Gemm { a: Operand { address: (1 << 20) + 16, transposed: false }, ..gemm(5, 768, 384) };
        assert_eq!(Product::new(&later).alignment, [16, 256, 256, 256]);
        // Of a transposed operand the rows are the stored ones.
        let a = Operand { address: 1 << 20, transposed: true };
        assert_eq!(Product::new(&Gemm { a, ..gemm(3, 768, 384) }).alignment[0], 2);
        let f32_out = Gemm { output: Dtype::F32, onto: Some(1 << 24), bias: None, ..gemm(5, 3, 384) };
        assert_eq!(Product::new(&f32_out).alignment, [256, 256, 4, 4]);
    }
}
