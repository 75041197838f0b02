//! The red of high alarms is visible to protanopes, who do not perceive red light.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use monitor::window::{Colours, Main, Severity, Theme, ThemeChoice};
use slint::{Color, ComponentHandle};

/// A colour in linear red, green and blue.
type Linear = [f64; 3];
type Matrix = [[f64; 3]; 3];

/// Normal vision.
const NORMAL: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
/// Protanopia after Machado, Oliveira and Fernandes (2009), severity 1.0.
const MACHADO: Matrix = [
    [0.152_286, 1.052_583, -0.204_868],
    [0.114_503, 0.786_281, 0.099_216],
    [-0.003_882, -0.048_116, 1.051_998],
];
/// Protanopia after Viénot, Brettel and Mollon (1999).
const VIENOT: Matrix = [[0.112_38, 0.887_62, 0.0], [0.112_38, 0.887_62, 0.0], [0.004_01, -0.004_01, 1.0]];

/// The minimum contrast of text (WCAG 2, level AA).
const MIN_CONTRAST: f64 = 4.5;
/// The minimum CIE 1976 distance of two colours that everyone distinguishes at once. A distance of 2 is just noticeable.
const MIN_DISTANCE: f64 = 30.0;

fn seen(color: Color, vision: &Matrix) -> Linear {
    let linear = [color.red(), color.green(), color.blue()].map(|channel| {
        let channel = f64::from(channel) / 255.0;
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    });
    vision.map(|row| {
        row.iter().zip(linear).map(|(weight, channel)| weight * channel).sum::<f64>().clamp(0.0, 1.0)
    })
}

fn luminance([red, green, blue]: Linear) -> f64 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(one: Linear, other: Linear) -> f64 {
    let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
    one.max(other) / one.min(other)
}

/// The CIE 1976 distance.
fn distance(one: Linear, other: Linear) -> f64 {
    let lab = |color @ [red, green, blue]: Linear| {
        let root = |value: f64| if value > 0.008_856 { value.cbrt() } else { 7.787 * value + 16.0 / 116.0 };
        let x = root((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505);
        let y = root(luminance(color));
        let z = root((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    };
    lab(one).iter().zip(lab(other)).map(|(one, other)| (one - other).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn red_of_high_alarms_is_visible_to_protanopes() {
    // Measured with these functions: the former red on the dark background.
    let former = contrast(
        seen(Color::from_rgb_u8(0xe5, 0x25, 0x2a), &VIENOT),
        seen(Color::from_rgb_u8(0x19, 0x21, 0x2a), &VIENOT),
    );
    assert!(former < 2.5, "{former}");

    i_slint_backend_testing::init_no_event_loop();
    let window = Main::new().unwrap();
    let (theme, colours) = (window.global::<Theme>(), window.global::<Colours>());
    for choice in [ThemeChoice::Light, ThemeChoice::Dark] {
        theme.invoke_choose(choice);
        assert_eq!(theme.get_dark(), choice == ThemeChoice::Dark);
        for (vision, matrix) in [("normal", NORMAL), ("Machado", MACHADO), ("Viénot", VIENOT)] {
            let seen = |color| seen(color, &matrix);
            let digits = seen(colours.invoke_digits(Severity::High));
            let chip = seen(colours.invoke_background(Severity::High));
            let on_chip = seen(colours.invoke_foreground(Severity::High));
            let case = format!("{choice:?}, {vision}");
            for ground in [theme.get_pane(), theme.get_raised(), theme.get_window()] {
                let ground = seen(ground);
                for red in [digits, chip] {
                    let contrast = contrast(red, ground);
                    assert!(
                        contrast >= MIN_CONTRAST,
                        "{case}: red on {ground:?} has a contrast of {contrast}"
                    );
                }
            }
            let text = contrast(on_chip, chip);
            assert!(text >= MIN_CONTRAST, "{case}: the text of an alarm has a contrast of {text}");
            let normal = seen(colours.invoke_digits(Severity::None));
            let difference = distance(digits, normal);
            assert!(difference >= MIN_DISTANCE, "{case}: an alarm and a normal value differ by {difference}");
            let medium = distance(chip, seen(colours.invoke_background(Severity::Medium)));
            assert!(medium >= MIN_DISTANCE, "{case}: high and medium alarms differ by {medium}");
        }
    }
}
