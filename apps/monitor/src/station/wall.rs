//! The wall on the screen: rows are changed one by one, so that only their tiles are drawn anew.

use proto_json::{Mrn, RecordId, Timestamp};
use slint::{ComponentHandle, Image, Model, SharedString};
use ui::format;
use ui::trace::{Colour, Sparkline};

use super::{MOST_TILES, Station};
use crate::phrases;
use crate::wall::{Edit, Grid, Tile};
use crate::window::{Api, Theme, TileData};

/// Choices shown at once in the list of patients.
const MOST_CHOICES: usize = 1000;

impl Station {
    /// Shows all tiles anew.
    pub(super) fn show_all_tiles(&mut self) {
        let now = self.now();
        let (rows, ages): (Vec<TileData>, Vec<SharedString>) = self
            .wall
            .iter()
            .take(MOST_TILES)
            .map(|tile| {
                (self.row(tile, now), phrases::short_age(&tile.patient, now, self.stale_after).into())
            })
            .unzip();
        self.models.ages.set_vec(ages);
        self.models.tiles.set_vec(rows);
        self.show_note();
        self.fit_grid();
        let shown: Vec<Mrn> = self.wall.iter().take(MOST_TILES).map(|tile| tile.patient.mrn).collect();
        for mrn in shown {
            self.want_spark(mrn);
        }
    }

    /// Shows what changed in the order of tiles.
    pub(super) fn show_tile(&mut self, edit: Edit) {
        let (tiles, ages) = (self.models.tiles.clone(), self.models.ages.clone());
        let now = self.now();
        let row = |at: usize| {
            self.wall.at(at).map(|tile| {
                (
                    self.row(tile, now),
                    SharedString::from(phrases::short_age(&tile.patient, now, self.stale_after)),
                )
            })
        };
        let count = tiles.row_count();
        match edit {
            Edit::Changed(at) => {
                if let Some((row, age)) = row(at).filter(|_| at < count) {
                    if tiles.row_data(at).as_ref() != Some(&row) {
                        tiles.set_row_data(at, row);
                    }
                    ages.set_row_data(at, age);
                }
                return;
            }
            Edit::Inserted(at) => {
                if let Some((row, age)) = row(at).filter(|_| at < MOST_TILES) {
                    ages.insert(at, age);
                    tiles.insert(at, row);
                }
            }
            Edit::Moved { from, to } => {
                if from < count {
                    ages.remove(from);
                    tiles.remove(from);
                }
                if let Some((row, age)) = row(to).filter(|_| to < MOST_TILES) {
                    ages.insert(to, age);
                    tiles.insert(to, row);
                }
            }
        }
        while tiles.row_count() > MOST_TILES {
            ages.remove(MOST_TILES);
            tiles.remove(MOST_TILES);
        }
        while tiles.row_count() < self.wall.len().min(MOST_TILES) {
            let Some((row, age)) = row(tiles.row_count()) else { break };
            ages.push(age);
            tiles.push(row);
        }
        if tiles.row_count() != count {
            self.show_note();
            self.fit_grid();
        }
    }

    /// The alarm of a patient has changed.
    pub(super) fn show_severity(&mut self, mrn: Mrn) {
        let severity = self.alarms.of(mrn).map(|alarm| alarm.severity);
        if let Some(edit) = self.wall.set_severity(mrn, severity) {
            self.show_tile(edit);
        }
    }

    fn row(&self, tile: &Tile, now: Timestamp) -> TileData {
        let patient = &tile.patient;
        let limits = self.alarms.limits(patient.mrn);
        let data = phrases::tile(patient, self.alarms.of(patient.mrn), limits, now, self.stale_after);
        match &tile.spark {
            Some((_, Some(spark))) => {
                let age = phrases::short_age(patient, now, self.stale_after);
                // As the tile decides it.
                let is_long = data.stale || age.chars().count() > 9;
                let spark = self.spark_picture(spark, is_long && !data.alarm.is_empty());
                TileData { has_spark: true, spark, ..data }
            }
            _ => data,
        }
    }

    fn spark_picture(&self, spark: &Sparkline, is_crowded: bool) -> Image {
        let api = self.window.global::<Api>();
        let (width, height) = (api.get_tile_width() - 6.0, api.get_tile_height() - 6.0);
        // As the tile is laid out.
        let unit = (height / 6.2).min(width / 11.0);
        let below = if is_crowded { 3.95 } else { 3.1 };
        let zoom = self.window.global::<Theme>().get_zoom();
        let size = self.size((width - 6.0 * unit).max(20.0) / zoom, (height - below * unit).max(10.0) / zoom);
        let colour = if self.window.global::<Theme>().get_dark() {
            Colour::opaque(0x3d_f0_7a)
        } else {
            Colour::opaque(0x0b_7a_3c)
        };
        Image::from_rgba8_premultiplied(spark.draw(size, colour))
    }

    pub(super) fn resize_wall(&mut self, width: f32, height: f32) {
        self.wall_room = (width, height);
        self.fit_grid();
    }

    /// Makes tiles as large as they can be.
    fn fit_grid(&mut self) {
        let (width, height) = self.wall_room;
        if width < 50.0 || height < 50.0 {
            return;
        }
        let grid = Grid::of(self.wall.len().min(MOST_TILES), width, height);
        let api = self.window.global::<Api>();
        let changed = (api.get_tile_width(), api.get_tile_height()) != (grid.width, grid.height);
        api.set_columns(grid.columns as i32);
        if changed {
            api.set_tile_width(grid.width);
            api.set_tile_height(grid.height);
            self.redraw_tiles();
        }
    }

    /// Draws all small strips anew: for another size or other colours.
    pub(super) fn redraw_tiles(&self) {
        let now = self.now();
        for (at, tile) in self.wall.iter().take(self.models.tiles.row_count()).enumerate() {
            if tile.spark.is_some() {
                self.models.tiles.set_row_data(at, self.row(tile, now));
            }
        }
    }

    /// Ages go on; a value that becomes stale turns grey.
    pub(super) fn age_tiles(&self, now: Timestamp) {
        for (at, tile) in self.wall.iter().take(self.models.tiles.row_count()).enumerate() {
            let age: SharedString = phrases::short_age(&tile.patient, now, self.stale_after).into();
            if self.models.ages.row_data(at).as_ref() != Some(&age) {
                self.models.ages.set_row_data(at, age);
            }
            let stale = phrases::is_stale(&tile.patient, now, self.stale_after);
            if self.models.tiles.row_data(at).is_some_and(|row| row.stale != stale) {
                self.models.tiles.set_row_data(at, self.row(tile, now));
            }
        }
    }

    /// Fetches the small strip of a patient's latest ECG, unless it is here or on its way.
    pub(super) fn want_spark(&mut self, mrn: Mrn) {
        let Some(tile) = self.wall.get(mrn) else { return };
        let Some(ecg) = &tile.patient.latest_ecg else { return };
        let id = ecg.id;
        if tile.spark.as_ref().is_some_and(|(known, _)| *known == id)
            || ecg.status == proto_json::EcgStatus::Picture
        {
            return;
        }
        match self.sparks.get_mut(&mrn) {
            Some((coming, _)) if *coming == id => {}
            Some((_, next)) => *next = Some(id),
            None => {
                if self.link.spark(mrn, id) {
                    self.sparks.insert(mrn, (id, None));
                }
            }
        }
    }

    pub(super) fn take_spark(&mut self, mrn: Mrn, id: RecordId, spark: Result<Option<Sparkline>, ()>) {
        let next = self.sparks.remove(&mrn).and_then(|(_, next)| next);
        if let Ok(spark) = spark
            && let Some(edit) = self.wall.set_spark(mrn, id, spark)
        {
            self.show_tile(edit);
        }
        if next.is_some() {
            self.want_spark(mrn);
        }
    }

    /// Shows the patients whose name or number has this in it.
    pub(super) fn search_patients(&mut self, text: &str) {
        self.search = text.trim().to_lowercase();
        self.search_patients_again();
    }

    /// The same for the patients there are now.
    pub(super) fn search_patients_again(&self) {
        let found = |tile: &&Tile| {
            self.search.is_empty()
                || tile.patient.mrn.to_string().contains(&self.search)
                || phrases::name(&tile.patient).to_lowercase().contains(&self.search)
        };
        let mut all: Vec<&Tile> = self.wall.iter().filter(found).collect();
        // By name, not by alarm: here somebody looks for somebody.
        all.sort_by_cached_key(|tile| {
            (tile.patient.name.is_none(), phrases::name(&tile.patient).to_lowercase())
        });
        let choices: Vec<_> = all
            .iter()
            .take(MOST_CHOICES)
            .map(|tile| phrases::patient_choice(&tile.patient, self.alarms.of(tile.patient.mrn)))
            .collect();
        let note = match (all.len(), self.wall.len()) {
            (_, 0) => "There are no patients yet.".to_owned(),
            (0, _) => "Nobody has that in name or number.".to_owned(),
            (some, all) if some < all => {
                format!("{some} of {}", format::count(all as u64, "patient", "patients"))
            }
            (_, all) => format::count(all as u64, "patient", "patients"),
        };
        self.models.patients.set_vec(choices);
        self.window.global::<Api>().set_patients_note(note.into());
    }
}
