//! Natural logarithm, fast enough for every sample.

/// Natural logarithm of a positive number, accurate to a few units in the last place. The result is the same
/// on all platforms, and loops over it become SIMD code.
pub(crate) fn ln(value: f32) -> f32 {
    /// Square root of one half: mantissas lie between it and its double.
    const ROOT: u32 = 0x3f35_04f3;
    let shifted = value.to_bits().wrapping_sub(ROOT);
    let exponent = (shifted.cast_signed() >> 23) as f32;
    let mantissa = f32::from_bits((shifted & 0x007f_ffff) + ROOT);
    // ln m = 2 artanh ((m - 1) / (m + 1)); the argument is at most 0.172.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0)));
    exponent * std::f32::consts::LN_2 + 2.0 * ratio * series
}

#[cfg(test)]
mod tests {
    use super::ln;

    #[test]
    fn ln_matches_the_platform() {
        let mut value = 1e-30_f32;
        while value < 1e30 {
            let expected = value.ln();
            assert!((ln(value) - expected).abs() <= 3e-7 * expected.abs().max(1.0), "ln {value}");
            value *= 1.001;
        }
        assert_eq!(ln(1.0), 0.0);
    }
}
