//! The caption of saved pictures: name, number and time are visible, in every script.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ui::Caption;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 300;

fn picture() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb([(x % 251) as u8, (y % 241) as u8, ((x * y) % 239) as u8]))
}

/// Writes a caption above the picture. Checks that the picture is unchanged and returns the caption.
fn captioned(title: &str, detail: &str) -> RgbImage {
    let mut file = std::io::Cursor::new(Vec::new());
    DynamicImage::from(picture()).write_to(&mut file, ImageFormat::Png).unwrap();
    let caption = Caption { title: title.to_owned(), detail: detail.to_owned() };
    let page = caption.write_above(&file.into_inner()).unwrap();
    let page = image::load_from_memory_with_format(&page, ImageFormat::Png).unwrap().into_rgb8();
    assert_eq!(page.width(), WIDTH);
    let above = page.height() - HEIGHT;
    let below = image::imageops::crop_imm(&page, 0, above, WIDTH, HEIGHT).to_image();
    assert!(below == picture(), "the picture is unchanged");
    image::imageops::crop_imm(&page, 0, 0, WIDTH, above).to_image()
}

/// The share of dark pixels in the upper or the lower half of a caption.
fn ink(caption: &RgbImage, from: f32, to: f32) -> f32 {
    let rows = (caption.height() as f32 * from) as u32..(caption.height() as f32 * to) as u32;
    let all = rows.clone().count() as f32 * WIDTH as f32;
    let dark = rows
        .flat_map(|y| (0..WIDTH).map(move |x| (x, y)))
        .filter(|(x, y)| caption.get_pixel(*x, *y).0[0] < 100);
    dark.count() as f32 / all
}

#[test]
fn both_lines_are_visible_and_depend_on_the_text() {
    let one = captioned("Sample Ann · MRN 7", "Recorded 2026-03-14 15:09:26 +01:00 (Europe/Berlin)");
    assert!(
        ink(&one, 0.0, 0.5) > 0.005 && ink(&one, 0.5, 1.0) > 0.005,
        "{} {}",
        ink(&one, 0.0, 0.5),
        ink(&one, 0.5, 1.0)
    );
    for (title, detail) in [
        ("Sample Ben · MRN 7", "Recorded 2026-03-14 15:09:26 +01:00 (Europe/Berlin)"),
        ("Sample Ann · MRN 8", "Recorded 2026-03-14 15:09:26 +01:00 (Europe/Berlin)"),
        ("Sample Ann · MRN 7", "Recorded 2026-03-14 15:09:26 +00:00 (Etc/UTC)"),
    ] {
        assert!(captioned(title, detail) != one, "{title}, {detail}");
    }
}

#[test]
fn long_name_is_not_cut_off() {
    let detail = "Recorded 2026-03-14 15:09:26 +01:00";
    let short = captioned("Sample Ann", detail);
    let long = captioned(&"Maximiliana-Bartholomea ".repeat(12), detail);
    assert!(long.height() > short.height() + 40, "{} and {}", long.height(), short.height());
    let (one, other) = (format!("{}A", "x".repeat(300)), format!("{}B", "x".repeat(300)));
    assert!(
        captioned(&one, detail) != captioned(&other, detail),
        "a word that is longer than a line is wrapped"
    );
}

/// Needs a font for these scripts: `scripts/test` installs one.
#[test]
fn chinese_japanese_and_korean_names_are_not_replaced_by_boxes() {
    let detail = "Recorded 2026-03-14 15:09:26 +01:00";
    // A character of the private use area is in no font, so it is shown as a box.
    let boxes = captioned("\u{e5f0}\u{e5f1}\u{e5f2}", detail);
    for names in [["王小明", "李大華"], ["さくら", "ひかり"], ["김민준", "이서연"]] {
        let [one, other] = names.map(|name| captioned(name, detail));
        assert!(one != boxes && other != boxes && one != other, "{names:?} are readable");
    }
}
