//! The overview page and the drop-down list of patients.
//!
//! Rows of the models are changed one by one, so that only the tiles that have changed are drawn.

use std::collections::HashMap;
use std::rc::Rc;

use proto_json::{EcgStatus, Mrn, RecordId, Timestamp};
use slint::{ComponentHandle, Image, Model, ModelRc, SharedString, VecModel};
use ui::trace::{Colour, Sparkline};
use ui::{format, tr};

use super::context::Context;
use crate::messages;
use crate::overview::{Grid, MAX_TILES, Slot, Tile, TileChange, TileOrder};
use crate::wards::PlaceFilter;
use crate::window::{OptionData, Theme, TileData};

/// The maximum number of patients in the drop-down list.
const MAX_OPTIONS: usize = 1000;
/// The colours of a sparkline in the dark and the light theme.
const SPARKLINE_DARK: Colour = Colour::opaque(0x3d_f0_7a);
const SPARKLINE_LIGHT: Colour = Colour::opaque(0x0b_7a_3c);

/// The controller of the overview page.
#[derive(Default)]
pub(super) struct OverviewController {
    tiles: Rc<VecModel<TileData>>,
    ages: Rc<VecModel<SharedString>>,
    options: Rc<VecModel<OptionData>>,
    /// The sparklines that are being loaded, and the ECGs to load after them.
    pending: HashMap<Mrn, (RecordId, Option<RecordId>)>,
    /// The size of the overview in logical pixels.
    size: (f32, f32),
    search: String,
}

impl OverviewController {
    pub(super) fn bind(&self, context: &Context) {
        let api = context.api();
        api.set_tiles(ModelRc::from(self.tiles.clone()));
        api.set_ages(ModelRc::from(self.ages.clone()));
        api.set_patients(ModelRc::from(self.options.clone()));
        api.set_tile_order(order_index(context.saved.order));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tiles.row_count() == 0
    }

    /// Discards all sparkline requests.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    /// Shows all tiles.
    pub(super) fn show_all(&mut self, context: &Context) {
        let now = context.now();
        let (rows, ages): (Vec<TileData>, Vec<SharedString>) =
            context.overview.slots().take(MAX_TILES).map(|slot| row(context, slot, now)).unzip();
        self.ages.set_vec(ages);
        self.tiles.set_vec(rows);
        self.fit_grid(context);
        for tile in context.overview.iter().take(MAX_TILES) {
            self.load_sparkline(context, tile.patient.mrn);
        }
    }

    /// Shows a change of the list of tiles. Returns whether the number of tiles has changed.
    pub(super) fn show_change(&mut self, context: &Context, change: TileChange) -> bool {
        let (tiles, ages) = (&self.tiles, &self.ages);
        let now = context.now();
        let row = |index: usize| context.overview.slot(index).map(|slot| row(context, slot, now));
        let count = tiles.row_count();
        match change {
            TileChange::Updated(index) => {
                if let Some((row, age)) = row(index).filter(|_| index < count) {
                    if tiles.row_data(index).as_ref() != Some(&row) {
                        tiles.set_row_data(index, row);
                    }
                    ages.set_row_data(index, age);
                }
                return false;
            }
            TileChange::Inserted(index) => {
                if let Some((row, age)) = row(index).filter(|_| index < MAX_TILES) {
                    ages.insert(index, age);
                    tiles.insert(index, row);
                }
            }
            TileChange::Moved { from, to } => {
                if from < count {
                    ages.remove(from);
                    tiles.remove(from);
                }
                if let Some((row, age)) = row(to).filter(|_| to < MAX_TILES) {
                    ages.insert(to, age);
                    tiles.insert(to, row);
                }
            }
            TileChange::Reordered => {
                self.show_all(context);
                return true;
            }
            TileChange::Hidden => return false,
        }
        while tiles.row_count() > MAX_TILES {
            ages.remove(MAX_TILES);
            tiles.remove(MAX_TILES);
        }
        while tiles.row_count() < context.overview.len().min(MAX_TILES) {
            let Some((row, age)) = row(tiles.row_count()) else { break };
            ages.push(age);
            tiles.push(row);
        }
        let has_changed = tiles.row_count() != count;
        if has_changed {
            self.fit_grid(context);
        }
        has_changed
    }

    pub(super) fn resize(&mut self, context: &Context, width: f32, height: f32) {
        self.size = (width, height);
        self.fit_grid(context);
    }

    /// Makes the tiles as large as possible.
    fn fit_grid(&self, context: &Context) {
        let (width, height) = self.size;
        if width < 50.0 || height < 50.0 {
            return;
        }
        let grid = Grid::of(context.overview.len().min(MAX_TILES), width, height);
        let api = context.api();
        let has_changed = (api.get_tile_width(), api.get_tile_height()) != (grid.width, grid.height);
        api.set_columns(grid.columns as i32);
        if has_changed {
            api.set_tile_width(grid.width);
            api.set_tile_height(grid.height);
            api.set_tile_layout(grid.layout());
            self.redraw_sparklines(context);
        }
    }

    /// Draws all sparklines for another size or theme.
    pub(super) fn redraw_sparklines(&self, context: &Context) {
        let now = context.now();
        for (index, slot) in context.overview.slots().take(self.tiles.row_count()).enumerate() {
            if matches!(slot, Slot::Patient(tile) if tile.sparkline.is_some()) {
                self.tiles.set_row_data(index, row(context, slot, now).0);
            }
        }
    }

    /// Updates the tiles whose name is split in another way, because another patient has got a similar name.
    pub(super) fn update_names(&self, context: &Context) {
        for (index, slot) in context.overview.slots().take(self.tiles.row_count()).enumerate() {
            let Slot::Patient(tile) = slot else { continue };
            let split_name = context.overview.split_name(tile.patient.mrn);
            if self.tiles.row_data(index).is_some_and(|row| row.name.end != split_name.end.as_str()) {
                self.tiles.set_row_data(index, row(context, slot, context.now()).0);
            }
        }
    }

    /// Updates the ages, and the tiles whose value has become stale.
    pub(super) fn update_ages(&self, context: &Context, now: Timestamp) {
        for (index, slot) in context.overview.slots().take(self.tiles.row_count()).enumerate() {
            let Slot::Patient(tile) = slot else { continue };
            let age: SharedString = messages::short_age(&tile.patient, now, context.stale_after).into();
            if self.ages.row_data(index).as_ref() != Some(&age) {
                self.ages.set_row_data(index, age);
            }
            let stale = messages::is_stale(&tile.patient, now, context.stale_after);
            if self.tiles.row_data(index).is_some_and(|row| row.stale != stale) {
                self.tiles.set_row_data(index, row(context, slot, now).0);
            }
        }
    }

    /// Loads the sparkline of the latest ECG of a patient, unless it is loaded or being loaded.
    pub(super) fn load_sparkline(&mut self, context: &Context, mrn: Mrn) {
        let Some(tile) = context.overview.get(mrn) else { return };
        let Some(ecg) = &tile.patient.latest_ecg else { return };
        let id = ecg.id;
        let is_loaded = tile.sparkline.as_ref().is_some_and(|(loaded, _)| *loaded == id);
        if is_loaded || ecg.status == EcgStatus::Picture {
            return;
        }
        match self.pending.get_mut(&mrn) {
            Some((pending, _)) if *pending == id => {}
            Some((_, next)) => *next = Some(id),
            None => {
                if context.backend.load_sparkline(mrn, id) {
                    self.pending.insert(mrn, (id, None));
                }
            }
        }
    }

    /// A sparkline was loaded, or could not be.
    pub(super) fn sparkline_loaded(
        &mut self,
        context: &mut Context,
        mrn: Mrn,
        id: RecordId,
        result: Result<Option<Sparkline>, ()>,
    ) {
        let next = self.pending.remove(&mrn).and_then(|(_, next)| next);
        if let Ok(sparkline) = result
            && let Some(change) = context.overview.set_sparkline(mrn, id, sparkline)
        {
            self.show_change(context, change);
        }
        if next.is_some() {
            self.load_sparkline(context, mrn);
        }
    }

    /// Changes the order of the tiles and saves it.
    pub(super) fn set_order(&mut self, context: &mut Context, index: i32) {
        let order = match index {
            1 => TileOrder::Number,
            2 => TileOrder::Severity,
            3 => TileOrder::Bed,
            _ => TileOrder::Name,
        };
        context.saved.order = order;
        context.save_settings();
        context.overview.set_order(order);
        context.api().set_tile_order(order_index(order));
        self.show_all(context);
    }

    /// Filters the drop-down list by a part of the name or of the number.
    pub(super) fn search(&mut self, context: &Context, text: &str) {
        self.search = text.trim().to_lowercase();
        self.show_options(context);
    }

    /// Shows the drop-down list of patients, ordered by name.
    pub(super) fn show_options(&self, context: &Context) {
        let matches = |tile: &&Tile| {
            self.search.is_empty()
                || tile.patient.mrn.to_string().contains(&self.search)
                || messages::name(&tile.patient).to_lowercase().contains(&self.search)
        };
        let mut found: Vec<&Tile> = context.overview.all().filter(matches).collect();
        found.sort_by_cached_key(|tile| {
            (tile.patient.name.is_none(), messages::name(&tile.patient).to_lowercase())
        });
        let mut options: Vec<OptionData> = found
            .iter()
            .take(MAX_OPTIONS)
            .map(|tile| {
                let mrn = tile.patient.mrn;
                messages::patient_option(
                    &tile.patient,
                    context.overview.split_name(mrn),
                    context.alarms.severity(mrn),
                )
            })
            .collect();
        if context.is_limited
            && let Ok(mrn) = self.search.parse::<Mrn>()
            && context.overview.get(mrn).is_none()
        {
            let title = messages::plain_name(&tr!("MRN {}", mrn));
            let (key, detail) = (mrn.to_string().into(), tr!("another ward…").into());
            options.push(OptionData { key, title, detail, ..OptionData::default() });
        }
        let all = format::count(context.overview.total() as u64, tr!("patient"), tr!("patients"));
        let note = match (found.len(), context.overview.total()) {
            (_, 0) => tr!("There are no patients yet.").to_owned(),
            (0, _) => tr!("No patient has this name or number.").to_owned(),
            (some, total) if some < total => tr!("{} of {}", some, all),
            _ => all,
        };
        self.options.set_vec(options);
        context.api().set_patients_note(note.into());
    }
}

fn order_index(order: TileOrder) -> i32 {
    match order {
        TileOrder::Name => 0,
        TileOrder::Number => 1,
        TileOrder::Severity => 2,
        TileOrder::Bed => 3,
    }
}

/// The data of a tile, and its age.
fn row(context: &Context, slot: Slot<'_>, now: Timestamp) -> (TileData, SharedString) {
    let tile = match slot {
        Slot::Patient(tile) => tile,
        Slot::Empty(bed) => return (messages::empty_bed(bed), SharedString::default()),
    };
    let patient = &tile.patient;
    let age = messages::short_age(patient, now, context.stale_after);
    let split_name = context.overview.split_name(patient.mrn);
    let mut data = messages::tile(patient, split_name, &context.alarms, now, context.stale_after);
    let places = context.overview.places();
    // Beds of different wards may have the same name.
    if places.wards.len() > 1
        && !matches!(places.filter(), PlaceFilter::Ward(_))
        && let Some(admission) = &patient.admission
    {
        data.bed = messages::place(admission).into();
    }
    if let Some((_, Some(sparkline))) = &tile.sparkline {
        data.has_sparkline = true;
        data.sparkline = sparkline_picture(context, sparkline);
    }
    (data, age.into())
}

fn sparkline_picture(context: &Context, sparkline: &Sparkline) -> Image {
    let area = context.api().get_tile_layout().sparkline;
    let zoom = context.window.global::<Theme>().get_zoom();
    let size = context.picture_size(area.width.max(20.0) / zoom, area.height.max(10.0) / zoom);
    let colour = if context.is_dark() { SPARKLINE_DARK } else { SPARKLINE_LIGHT };
    Image::from_rgba8_premultiplied(sparkline.draw(size, colour))
}
