//! The tiles of all patients in their order, and the grid that shows them.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use proto_json::{Mrn, PatientSummary, RecordId};
use serde::{Deserialize, Serialize};
use ui::trace::Sparkline;

use crate::alarms::Severity;

/// The maximum number of tiles on the screen.
///
/// With more patients, the tiles are ordered by severity in any case, so that no severe alarm is left out.
pub const MAX_TILES: usize = 400;

/// The order of the tiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TileOrder {
    /// By name. A tile does not move when an alarm is raised.
    #[default]
    Name,
    /// By medical record number. A tile does not move when an alarm is raised.
    Number,
    /// By severity of the alarm, the most severe first, then by name.
    Severity,
}

/// One patient on the overview.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The summary of the patient.
    pub patient: PatientSummary,
    /// The sparkline and the ECG that it shows. The sparkline is `None` if that ECG has no readable signal.
    pub sparkline: Option<(RecordId, Option<Sparkline>)>,
    severity: Option<Severity>,
    sort_key: SortKey,
}

/// Severity, name and number of a patient, in the order in which tiles are compared.
type SortKey = (Reverse<Option<Severity>>, String, Mrn);

/// A change of the list of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileChange {
    /// The tile at this index has other content.
    Updated(usize),
    /// There is a new tile at this index.
    Inserted(usize),
    /// A tile has moved and may have other content.
    Moved {
        /// The index before the move.
        from: usize,
        /// The index after the move.
        to: usize,
    },
    /// Any number of tiles has moved.
    Reordered,
}

/// All tiles in their order.
#[derive(Debug, Default)]
pub struct Overview {
    tiles: HashMap<Mrn, Tile>,
    sorted: Vec<Mrn>,
    order: TileOrder,
}

impl Overview {
    /// An overview without tiles.
    #[must_use]
    pub fn new(order: TileOrder) -> Self {
        Overview { order, ..Overview::default() }
    }

    /// The number of tiles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are no tiles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The tile of a patient.
    #[must_use]
    pub fn get(&self, mrn: Mrn) -> Option<&Tile> {
        self.tiles.get(&mrn)
    }

    /// The tiles in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Tile> {
        self.sorted.iter().filter_map(|mrn| self.tiles.get(mrn))
    }

    /// The tile at an index.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Tile> {
        self.sorted.get(index).and_then(|mrn| self.tiles.get(mrn))
    }

    /// The index of the tile of a patient.
    #[must_use]
    pub fn index_of(&self, mrn: Mrn) -> Option<usize> {
        let key = &self.tiles.get(&mrn)?.sort_key;
        self.sorted
            .binary_search_by(|other| self.tiles.get(other).map(|tile| &tile.sort_key).cmp(&Some(key)))
            .ok()
    }

    /// Changes the order of the tiles.
    pub fn set_order(&mut self, order: TileOrder) {
        self.order = order;
        self.sort();
    }

    /// Replaces all patients. A sparkline stays if its ECG is still the latest.
    pub fn replace(&mut self, patients: Vec<PatientSummary>, severity: impl Fn(Mrn) -> Option<Severity>) {
        let mut before = std::mem::take(&mut self.tiles);
        for patient in patients {
            let mrn = patient.mrn;
            let sparkline = before.remove(&mrn).and_then(|tile| tile.sparkline);
            let severity = severity(mrn);
            let sort_key = sort_key(self.order, &patient, severity);
            self.tiles.insert(mrn, Tile { patient, sparkline, severity, sort_key });
        }
        self.sort();
    }

    /// Inserts or updates one patient.
    pub fn update(&mut self, patient: PatientSummary, severity: Option<Severity>) -> TileChange {
        let mrn = patient.mrn;
        let Some(from) = self.index_of(mrn) else {
            let sort_key = sort_key(self.effective_order(), &patient, severity);
            self.tiles.insert(mrn, Tile { patient, sparkline: None, severity, sort_key });
            let index = self.insert_sorted(mrn);
            if self.len() == MAX_TILES + 1 {
                self.sort();
                return TileChange::Reordered;
            }
            return TileChange::Inserted(index);
        };
        let sort_key = sort_key(self.effective_order(), &patient, severity);
        if let Some(tile) = self.tiles.get_mut(&mrn) {
            (tile.patient, tile.severity) = (patient, severity);
        }
        self.move_tile(mrn, from, sort_key)
    }

    /// Sets the severity of the alarm of a patient. `None` if there is no such patient.
    pub fn set_severity(&mut self, mrn: Mrn, severity: Option<Severity>) -> Option<TileChange> {
        let from = self.index_of(mrn)?;
        let order = self.effective_order();
        let tile = self.tiles.get_mut(&mrn)?;
        tile.severity = severity;
        let sort_key = sort_key(order, &tile.patient, severity);
        Some(self.move_tile(mrn, from, sort_key))
    }

    /// Sets the sparkline of a patient. `None` if `ecg` is no longer the latest ECG of the patient.
    pub fn set_sparkline(
        &mut self,
        mrn: Mrn,
        ecg: RecordId,
        sparkline: Option<Sparkline>,
    ) -> Option<TileChange> {
        let tile = self.tiles.get_mut(&mrn)?;
        if tile.patient.latest_ecg.as_ref()?.id != ecg {
            return None;
        }
        tile.sparkline = Some((ecg, sparkline));
        self.index_of(mrn).map(TileChange::Updated)
    }

    /// The numbers of all patients.
    #[must_use]
    pub fn mrns(&self) -> HashSet<Mrn> {
        self.tiles.keys().copied().collect()
    }

    fn effective_order(&self) -> TileOrder {
        if self.tiles.len() > MAX_TILES { TileOrder::Severity } else { self.order }
    }

    fn sort(&mut self) {
        let order = self.effective_order();
        for tile in self.tiles.values_mut() {
            tile.sort_key = sort_key(order, &tile.patient, tile.severity);
        }
        let mut sorted: Vec<&Tile> = self.tiles.values().collect();
        sorted.sort_unstable_by(|one, other| one.sort_key.cmp(&other.sort_key));
        self.sorted = sorted.into_iter().map(|tile| tile.patient.mrn).collect();
    }

    fn move_tile(&mut self, mrn: Mrn, from: usize, sort_key: SortKey) -> TileChange {
        let Some(tile) = self.tiles.get_mut(&mrn).filter(|tile| tile.sort_key != sort_key) else {
            return TileChange::Updated(from);
        };
        tile.sort_key = sort_key;
        self.sorted.remove(from);
        let to = self.insert_sorted(mrn);
        if to == from { TileChange::Updated(from) } else { TileChange::Moved { from, to } }
    }

    fn insert_sorted(&mut self, mrn: Mrn) -> usize {
        let key = self.tiles.get(&mrn).map(|tile| &tile.sort_key);
        let index =
            self.sorted.partition_point(|other| self.tiles.get(other).map(|tile| &tile.sort_key) < key);
        self.sorted.insert(index, mrn);
        index
    }
}

fn sort_key(order: TileOrder, patient: &PatientSummary, severity: Option<Severity>) -> SortKey {
    // Patients without a name come last.
    let name = || patient.name.as_ref().map_or_else(|| "\u{10ffff}".to_owned(), |name| name.to_lowercase());
    match order {
        TileOrder::Name => (Reverse(None), name(), patient.mrn),
        TileOrder::Number => (Reverse(None), String::new(), patient.mrn),
        TileOrder::Severity => (Reverse(severity), name(), patient.mrn),
    }
}

/// A grid of tiles of the same size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// The number of tiles in a row.
    pub columns: usize,
    /// The width of a tile with its margin, in logical pixels.
    pub width: f32,
    /// The height of a tile with its margin, in logical pixels.
    pub height: f32,
}

/// The smallest readable size of a tile.
const MIN_SIZE: (f32, f32) = (150.0, 84.0);
/// The largest size of a tile before the grid stretches it to fill a row.
const MAX_SIZE: (f32, f32) = (420.0, 230.0);
/// The largest width of a stretched tile.
const MAX_STRETCHED_WIDTH: f32 = 560.0;
/// The ratio of width to height that suits the content of a tile.
const ASPECT_RATIO: f32 = 1.9;

impl Grid {
    /// The grid with the largest tiles for an area in logical pixels. If even the smallest tiles do not fit, the grid is
    /// higher than the area and has to be scrolled.
    #[must_use]
    pub fn of(count: usize, width: f32, height: f32) -> Self {
        let count = count.max(1);
        let grid = |columns: usize| {
            let rows = count.div_ceil(columns) as f32;
            let tile_width = (width / columns as f32).clamp(MIN_SIZE.0, MAX_SIZE.0);
            let tile_height = (height / rows).clamp(MIN_SIZE.1, MAX_SIZE.1).min(tile_width / 1.4);
            Grid { columns, width: tile_width, height: tile_height.max(MIN_SIZE.1) }
        };
        let fits = |grid: &Grid| grid.height * count.div_ceil(grid.columns) as f32 <= height + 0.5;
        let max_columns = ((width / MIN_SIZE.0) as usize).max(1);
        let size = |grid: &Grid| (grid.width / ASPECT_RATIO).min(grid.height);
        (1..=max_columns.min(count))
            .map(grid)
            .filter(fits)
            .max_by(|one, other| size(one).total_cmp(&size(other)))
            .map(|grid| {
                let stretched = (width / grid.columns as f32).clamp(grid.width, MAX_STRETCHED_WIDTH);
                Grid { width: stretched, ..grid }
            })
            .unwrap_or_else(|| Grid { width: width / max_columns as f32, ..grid(max_columns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_json::Timestamp;

    fn patient(mrn: u64, name: &str) -> PatientSummary {
        let at = Timestamp::from_millis(0).unwrap();
        PatientSummary {
            mrn: Mrn::new(mrn).unwrap(),
            name: (!name.is_empty()).then(|| name.to_owned()),
            renamed: None,
            version: 1,
            created_at: at,
            updated_at: at,
            latest_heart_rate: None,
            latest_ecg: None,
            latest_image: None,
        }
    }

    fn mrns(overview: &Overview) -> Vec<u64> {
        overview.iter().map(|tile| tile.patient.mrn.get()).collect()
    }

    fn overview(order: TileOrder) -> Overview {
        let mut overview = Overview::new(order);
        let patients = vec![patient(4, ""), patient(3, "Cleo"), patient(1, "Ben"), patient(2, "ann")];
        overview.replace(patients, |_| None);
        overview
    }

    #[test]
    fn tiles_do_not_move_when_the_severity_changes_unless_ordered_by_severity() {
        let cleo = Mrn::new(3).unwrap();
        for (order, expected) in [(TileOrder::Name, [2, 1, 3, 4]), (TileOrder::Number, [1, 2, 3, 4])] {
            let mut overview = overview(order);
            assert_eq!(mrns(&overview), expected);
            let change = overview.set_severity(cleo, Some(Severity::High));
            assert_eq!(change, Some(TileChange::Updated(2)));
            assert_eq!(mrns(&overview), expected);
            overview.set_order(TileOrder::Severity);
            assert_eq!(mrns(&overview), [3, 2, 1, 4], "the severity is known");
        }
    }

    #[test]
    fn tiles_ordered_by_severity_are_then_ordered_by_name_and_nameless_come_last() {
        let mut overview = overview(TileOrder::Severity);
        assert_eq!(mrns(&overview), [2, 1, 3, 4]);
        let cleo = Mrn::new(3).unwrap();
        let moved = |from, to| Some(TileChange::Moved { from, to });
        assert_eq!(overview.set_severity(cleo, Some(Severity::High)), moved(2, 0));
        let ben = Mrn::new(1).unwrap();
        assert_eq!(overview.set_severity(ben, Some(Severity::Technical)), moved(2, 1));
        assert_eq!(mrns(&overview), [3, 1, 2, 4]);
        assert_eq!(overview.set_severity(cleo, Some(Severity::High)), Some(TileChange::Updated(0)));
        assert_eq!(overview.set_severity(cleo, None), moved(0, 2));
        assert_eq!(mrns(&overview), [1, 2, 3, 4]);
    }

    #[test]
    fn more_patients_than_tiles_are_ordered_by_severity() {
        let mut overview = Overview::new(TileOrder::Number);
        let last = Mrn::new(MAX_TILES as u64).unwrap();
        let patients = (0..MAX_TILES as u64).map(|mrn| patient(mrn, "")).collect();
        overview.replace(patients, |_| None);
        assert_eq!(overview.update(patient(last.get(), ""), Some(Severity::High)), TileChange::Reordered);
        assert_eq!(overview.index_of(last), Some(0));
    }

    /// A copy that applies only the changes shows the same order.
    #[test]
    fn changes_reproduce_the_order() {
        for order in [TileOrder::Name, TileOrder::Number, TileOrder::Severity] {
            let mut overview = Overview::new(order);
            let mut copy: Vec<u64> = Vec::new();
            let mut state = 12345_u64;
            for _ in 0..2000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let mrn = (state >> 33) % 40;
                let severity =
                    [None, Some(Severity::Technical), Some(Severity::Medium), Some(Severity::High)]
                        [(state >> 50) as usize % 4];
                let named = patient(mrn, &format!("{}", (state >> 40) % 7));
                match overview.update(named, severity) {
                    TileChange::Updated(index) => assert_eq!(copy[index], mrn),
                    TileChange::Inserted(index) => copy.insert(index, mrn),
                    TileChange::Moved { from, to } => {
                        assert_eq!(copy.remove(from), mrn);
                        copy.insert(to, mrn);
                    }
                    TileChange::Reordered => panic!("there are few patients"),
                }
                assert_eq!(mrns(&overview), copy);
            }
            assert_eq!(overview.len(), 40);
        }
    }

    #[test]
    fn sparkline_of_an_older_ecg_is_ignored() {
        let mut overview = overview(TileOrder::Name);
        let (ann, id) = (Mrn::new(2).unwrap(), proto_json::UploadId::generate().record("ecg", 0));
        assert_eq!(overview.set_sparkline(ann, id, None), None);
        assert!(overview.get(ann).unwrap().sparkline.is_none());
    }

    #[test]
    fn grid_fits_64_tiles_on_a_large_screen_and_limits_the_size_of_one() {
        let grid = Grid::of(64, 1900.0, 980.0);
        assert!(grid.columns as f32 * grid.width <= 1901.0);
        assert!(64_usize.div_ceil(grid.columns) as f32 * grid.height <= 981.0, "{grid:?}");
        assert!(grid.width >= 200.0, "{grid:?}");
        let one = Grid::of(1, 1900.0, 980.0);
        assert!(one.width <= MAX_STRETCHED_WIDTH && one.height <= MAX_SIZE.1);
        let eight = Grid::of(8, 1400.0, 800.0);
        assert_eq!(eight.columns as f32 * eight.width, 1400.0, "{eight:?}");
        let many = Grid::of(500, 900.0, 600.0);
        assert!(many.width >= MIN_SIZE.0 && many.height >= MIN_SIZE.1);
        assert!(many.columns as f32 * many.width <= 901.0);
    }
}
