//! A `plotters` back end for PDF: vector lines, areas and text of one page.
//!
//! `pdf-writer` writes the objects of the document. Text uses Helvetica, which every viewer has, so nothing is embedded;
//! letters outside of Latin-1 become question marks. Helvetica is narrower than the font that the layout is measured
//! with, so text never overlaps.

use std::convert::Infallible;

use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Finish, Name, Pdf as Document, Rect, Ref, Str};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
};

use super::font::font;
use super::text::LINE_PER_SIZE;

/// Points of PDF per hundredth of a millimetre.
const POINTS: f32 = 72.0 / 2540.0;
/// Width of Helvetica relative to the font of the layout.
const HELVETICA_SHARE: f64 = 0.9;
/// Height of the middle of a lower-case letter relative to the font size.
const HALF_LETTER: f64 = 0.26;
const REGULAR: Name<'_> = Name(b"F0");
const BOLD: Name<'_> = Name(b"F1");

/// A page, addressed in hundredths of a millimetre from its upper left corner.
pub(super) struct Pdf {
    size: (u32, u32),
    content: Content,
    /// Opacities in use, in percent. Each has an entry in the resources of the page.
    opacities: Vec<u8>,
}

impl Pdf {
    pub(super) fn new(size: (u32, u32)) -> Self {
        let mut content = Content::new();
        // PDF counts from the lower left corner.
        content.transform([POINTS, 0.0, 0.0, -POINTS, 0.0, size.1 as f32 * POINTS]);
        content.set_line_cap(LineCapStyle::RoundCap).set_line_join(LineJoinStyle::RoundJoin);
        Pdf { size, content, opacities: Vec::new() }
    }

    /// The complete file.
    pub(super) fn into_document(self) -> Vec<u8> {
        let reference = |number: i32| Ref::new(number);
        let (catalog, pages, page, content) = (reference(1), reference(2), reference(3), reference(4));
        let fonts = [(REGULAR, reference(5), "Helvetica"), (BOLD, reference(6), "Helvetica-Bold")];
        let mut document = Document::new();
        document.catalog(catalog).pages(pages);
        document.pages(pages).kids([page]).count(1);
        let (width, height) = (self.size.0 as f32 * POINTS, self.size.1 as f32 * POINTS);
        let mut sheet = document.page(page);
        sheet.parent(pages).media_box(Rect::new(0.0, 0.0, width, height)).contents(content);
        let mut resources = sheet.resources();
        let mut names = resources.fonts();
        for (name, font, _) in fonts {
            names.pair(name, font);
        }
        names.finish();
        let mut states = resources.ext_g_states();
        for opacity in &self.opacities {
            let share = f32::from(*opacity) / 100.0;
            let name = state_name(*opacity);
            let mut state =
                states.insert(Name(name.as_bytes())).start::<pdf_writer::writers::ExtGraphicsState<'_>>();
            state.non_stroking_alpha(share).stroking_alpha(share);
        }
        states.finish();
        resources.finish();
        sheet.finish();
        for (_, font, base) in fonts {
            document
                .type1_font(font)
                .base_font(Name(base.as_bytes()))
                .encoding_predefined(Name(b"WinAnsiEncoding"));
        }
        document.stream(content, &self.content.finish());
        document.finish()
    }

    /// Sets colour and opacity of lines and areas.
    fn set(&mut self, color: BackendColor) {
        let (red, green, blue) = color.rgb;
        let share = |part: u8| f32::from(part) / 255.0;
        let (red, green, blue) = (share(red), share(green), share(blue));
        self.content.set_fill_rgb(red, green, blue).set_stroke_rgb(red, green, blue);
        let opacity = (color.alpha.clamp(0.0, 1.0) * 100.0).round() as u8;
        if !self.opacities.contains(&opacity) {
            self.opacities.push(opacity);
        }
        self.content.set_parameters(Name(state_name(opacity).as_bytes()));
    }

    fn trace(&mut self, points: impl IntoIterator<Item = BackendCoord>) {
        for (index, (x, y)) in points.into_iter().enumerate() {
            let (x, y) = (x as f32, y as f32);
            if index == 0 {
                self.content.move_to(x, y);
            } else {
                self.content.line_to(x, y);
            }
        }
    }
}

fn state_name(opacity: u8) -> String {
    format!("A{opacity}")
}

/// Latin-1 bytes of a text. WinAnsi has the same codes except for those of control characters.
fn latin(text: &str) -> Vec<u8> {
    let byte = |letter: char| match letter {
        '…' => 0x85,
        '–' => 0x96,
        ' '..='~' | '\u{a0}'..='\u{ff}' => letter as u8,
        _ => b'?',
    };
    text.chars().map(byte).collect()
}

type Done = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Pdf {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Done {
        Ok(())
    }

    fn present(&mut self) -> Done {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Done {
        self.set(color);
        self.content.rect(point.0 as f32, point.1 as f32, 1.0, 1.0).fill_nonzero();
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Done {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Done {
        self.set(style.color());
        let (width, height) = (bottom_right.0 - upper_left.0, bottom_right.1 - upper_left.1);
        self.content.rect(upper_left.0 as f32, upper_left.1 as f32, width as f32, height as f32);
        if fill {
            self.content.fill_nonzero();
        } else {
            self.content.set_line_width(style.stroke_width() as f32).stroke();
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Done {
        self.set(style.color());
        self.content.set_line_width(style.stroke_width() as f32);
        self.trace(path);
        self.content.stroke();
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Done {
        self.set(style.color());
        self.trace(vertices);
        self.content.close_path().fill_nonzero();
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Done {
        let bold = matches!(style.style(), FontStyle::Bold);
        let em = style.size() / LINE_PER_SIZE;
        let advance = |letter| font(bold).map_or(0.5, |font| font.advance(letter));
        let width = text.chars().map(advance).sum::<f64>() * em * HELVETICA_SHARE;
        let x = f64::from(at.0)
            - match style.anchor().h_pos {
                HPos::Left => 0.0,
                HPos::Center => width / 2.0,
                HPos::Right => width,
            };
        let y = f64::from(at.1)
            + match style.anchor().v_pos {
                VPos::Top => em * 0.76,
                VPos::Center => em * HALF_LETTER,
                VPos::Bottom => -em * HALF_LETTER,
            };
        self.set(style.color());
        self.content
            .begin_text()
            .set_font(if bold { BOLD } else { REGULAR }, em as f32)
            // The page is upside down, so the letters are turned back.
            .set_text_matrix([1.0, 0.0, 0.0, -1.0, x as f32, y as f32])
            .show(Str(&latin(text)))
            .end_text();
        Ok(())
    }
}
