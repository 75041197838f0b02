//! The tiles of all patients in their order, and the grid that shows them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use proto_json::{BedId, Mrn, PatientSummary, RecordId};
use serde::{Deserialize, Serialize};
use ui::trace::Sparkline;

use crate::alarms::Severity;
use crate::wards::{EmptyBed, Places};
use crate::window::{Area, TileLayout};

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
    /// By ward and bed, then by name. A tile does not move when an alarm is raised.
    Bed,
}

/// A tile of the overview.
#[derive(Debug, Clone, Copy)]
pub enum Slot<'a> {
    /// A patient.
    Patient(&'a Tile),
    /// An empty bed of the chosen ward.
    Empty(&'a EmptyBed),
}

/// What a tile shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotId {
    Patient(Mrn),
    Empty(BedId),
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
type SortKey = (Reverse<Option<Severity>>, String, Option<Mrn>);

/// The number in the sort key of an empty bed.
const NO_PATIENT: Option<Mrn> = None;

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
    /// The patient is not shown.
    Hidden,
}

/// All tiles in their order.
#[derive(Debug, Default)]
pub struct Overview {
    tiles: HashMap<Mrn, Tile>,
    /// The empty beds that are shown, and their places.
    empty: HashMap<BedId, (EmptyBed, SortKey)>,
    sorted: Vec<SlotId>,
    order: TileOrder,
    places: Places,
    /// All names in lower case with their numbers, to find similar names.
    names: BTreeSet<(String, Mrn)>,
}

impl Overview {
    /// An overview without tiles.
    #[must_use]
    pub fn new(order: TileOrder) -> Self {
        Overview { order, ..Overview::default() }
    }

    /// The wards and the choice among them.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Replaces the wards and the choice among them.
    pub fn set_places(&mut self, places: Places) {
        self.places = places;
        self.sort();
    }

    /// All patients, in no order. Not all of them are shown.
    pub fn all(&self) -> impl Iterator<Item = &Tile> {
        self.tiles.values()
    }

    /// The number of all patients.
    #[must_use]
    pub fn total(&self) -> usize {
        self.tiles.len()
    }

    /// The number of tiles, with those of empty beds.
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

    /// The patients that are shown, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Tile> {
        self.slots().filter_map(|slot| match slot {
            Slot::Patient(tile) => Some(tile),
            Slot::Empty(_) => None,
        })
    }

    /// The tiles in their order, with those of empty beds.
    pub fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.sorted.iter().filter_map(|slot| self.slot_of(*slot))
    }

    /// The tile at an index.
    #[must_use]
    pub fn slot(&self, index: usize) -> Option<Slot<'_>> {
        self.sorted.get(index).and_then(|slot| self.slot_of(*slot))
    }

    /// The patient at an index. `None` for an empty bed.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Tile> {
        match self.slot(index)? {
            Slot::Patient(tile) => Some(tile),
            Slot::Empty(_) => None,
        }
    }

    fn slot_of(&self, slot: SlotId) -> Option<Slot<'_>> {
        match slot {
            SlotId::Patient(mrn) => self.tiles.get(&mrn).map(Slot::Patient),
            SlotId::Empty(bed) => self.empty.get(&bed).map(|(bed, _)| Slot::Empty(bed)),
        }
    }

    fn key_of(&self, slot: SlotId) -> Option<&SortKey> {
        match slot {
            SlotId::Patient(mrn) => self.tiles.get(&mrn).map(|tile| &tile.sort_key),
            SlotId::Empty(bed) => self.empty.get(&bed).map(|(_, key)| key),
        }
    }

    /// The index of the tile of a patient. `None` if the patient is not shown.
    #[must_use]
    pub fn index_of(&self, mrn: Mrn) -> Option<usize> {
        let key = &self.tiles.get(&mrn)?.sort_key;
        let found = self.sorted.binary_search_by(|other| self.key_of(*other).cmp(&Some(key))).ok();
        found.filter(|index| self.sorted.get(*index) == Some(&SlotId::Patient(mrn)))
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
            let sort_key = sort_key(self.order, &patient, severity, &self.places);
            self.tiles.insert(mrn, Tile { patient, sparkline, severity, sort_key });
        }
        self.names = self.tiles.values().filter_map(|tile| name_key(&tile.patient)).collect();
        self.sort();
    }

    /// The name of a patient, split where it differs from similar names.
    #[must_use]
    pub fn split_name(&self, mrn: Mrn) -> SplitName {
        let Some(patient) = self.tiles.get(&mrn).map(|tile| &tile.patient) else {
            return SplitName::default();
        };
        let (Some(name), Some(key)) = (&patient.name, name_key(patient)) else { return SplitName::default() };
        // Patients with equal names differ in their numbers only.
        let differs = |other: &&(String, Mrn)| other.0 != key.0;
        let before = self.names.range(..&key).rev().find(differs);
        let after = self.names.range((Bound::Excluded(&key), Bound::Unbounded)).find(differs);
        SplitName::of(name, before.into_iter().chain(after).map(|(other, _)| other.as_str()))
    }

    /// Inserts or updates one patient.
    pub fn update(&mut self, patient: PatientSummary, severity: Option<Severity>) -> TileChange {
        let mrn = patient.mrn;
        if let Some(before) = self.tiles.get(&mrn).and_then(|tile| name_key(&tile.patient)) {
            self.names.remove(&before);
        }
        self.names.extend(name_key(&patient));
        let place = |patient: &PatientSummary| patient.admission.as_ref().map(|at| (at.ward, at.bed));
        let before = self.tiles.get(&mrn).and_then(|tile| place(&tile.patient));
        if before != place(&patient) {
            // The patient and the beds that become occupied or empty move.
            let sparkline = self.tiles.remove(&mrn).and_then(|tile| tile.sparkline);
            let sort_key = sort_key(self.order, &patient, severity, &self.places);
            self.tiles.insert(mrn, Tile { patient, sparkline, severity, sort_key });
            self.sort();
            return TileChange::Reordered;
        }
        let Some(from) = self.index_of(mrn) else {
            let is_shown = self.places.shows(&patient);
            let sparkline = self.tiles.remove(&mrn).and_then(|tile| tile.sparkline);
            let sort_key = sort_key(self.effective_order(), &patient, severity, &self.places);
            self.tiles.insert(mrn, Tile { patient, sparkline, severity, sort_key });
            if !is_shown {
                return TileChange::Hidden;
            }
            let index = self.insert_sorted(mrn);
            if self.len() == MAX_TILES + 1 {
                self.sort();
                return TileChange::Reordered;
            }
            return TileChange::Inserted(index);
        };
        let sort_key = sort_key(self.effective_order(), &patient, severity, &self.places);
        if let Some(tile) = self.tiles.get_mut(&mrn) {
            (tile.patient, tile.severity) = (patient, severity);
        }
        self.move_tile(mrn, from, sort_key)
    }

    /// Sets the severity of the alarm of a patient. `None` if there is no such patient, or if it is not shown.
    pub fn set_severity(&mut self, mrn: Mrn, severity: Option<Severity>) -> Option<TileChange> {
        let from = self.index_of(mrn);
        let order = self.effective_order();
        let tile = self.tiles.get_mut(&mrn)?;
        tile.severity = severity;
        let sort_key = sort_key(order, &tile.patient, severity, &self.places);
        Some(self.move_tile(mrn, from?, sort_key))
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
        if self.sorted.len() > MAX_TILES { TileOrder::Severity } else { self.order }
    }

    fn sort(&mut self) {
        let shown = self.tiles.values().filter(|tile| self.places.shows(&tile.patient));
        let mut sorted: Vec<SlotId> = shown.map(|tile| SlotId::Patient(tile.patient.mrn)).collect();
        let empty = self.places.empty_beds(self.tiles.values().map(|tile| &tile.patient));
        sorted.extend(empty.iter().map(|bed| SlotId::Empty(bed.id)));
        self.sorted = sorted;
        let order = self.effective_order();
        for tile in self.tiles.values_mut() {
            tile.sort_key = sort_key(order, &tile.patient, tile.severity, &self.places);
        }
        self.empty = empty.into_iter().map(|bed| (bed.id, (bed.clone(), empty_key(order, &bed)))).collect();
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.sort_unstable_by(|one, other| self.key_of(*one).cmp(&self.key_of(*other)));
        self.sorted = sorted;
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
        let index = self.sorted.partition_point(|other| self.key_of(*other) < key);
        self.sorted.insert(index, SlotId::Patient(mrn));
        index
    }
}

fn name_key(patient: &PatientSummary) -> Option<(String, Mrn)> {
    Some((patient.name.as_ref()?.to_lowercase(), patient.mrn))
}

/// Empty beds come last, except in the order of beds.
fn empty_key(order: TileOrder, bed: &EmptyBed) -> SortKey {
    let key = match order {
        TileOrder::Bed => bed.key.clone(),
        TileOrder::Name | TileOrder::Number | TileOrder::Severity => {
            format!("\u{10ffff}\u{10ffff}{}", bed.key)
        }
    };
    (Reverse(None), key, NO_PATIENT)
}

fn sort_key(
    order: TileOrder,
    patient: &PatientSummary,
    severity: Option<Severity>,
    places: &Places,
) -> SortKey {
    // Patients without a name come last.
    let name = || patient.name.as_ref().map_or_else(|| "\u{10ffff}".to_owned(), |name| name.to_lowercase());
    match order {
        TileOrder::Name => (Reverse(None), name(), Some(patient.mrn)),
        TileOrder::Number => (Reverse(None), String::new(), Some(patient.mrn)),
        TileOrder::Severity => (Reverse(severity), name(), Some(patient.mrn)),
        TileOrder::Bed => {
            let key = places.bed_key(patient).unwrap_or_else(|| format!("\u{10ffff}{}", name()));
            (Reverse(None), key, Some(patient.mrn))
        }
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

/// The smallest readable size of a tile with its margin.
const MIN_SIZE: (f32, f32) = (150.0, 84.0);
/// The height of the tiles if not all of them fit.
const SCROLLED_HEIGHT: f32 = 104.0;
/// The space between two tiles.
pub const TILE_GAP: f32 = 6.0;

impl Grid {
    /// The grid with the largest digits for an area in logical pixels. The tiles fill the area. If even the smallest tiles do
    /// not fit, the grid is higher than the area and has to be scrolled.
    #[must_use]
    pub fn of(count: usize, width: f32, height: f32) -> Self {
        let count = count.max(1);
        let max_columns = ((width / MIN_SIZE.0) as usize).max(1);
        let grid = |columns: usize| Grid {
            columns,
            width: width / columns as f32,
            height: height / count.div_ceil(columns) as f32,
        };
        (1..=max_columns.min(count))
            .map(grid)
            .filter(|grid| grid.height >= MIN_SIZE.1)
            .max_by(|one, other| one.layout().digits_size.total_cmp(&other.layout().digits_size))
            .unwrap_or_else(|| Grid { height: SCROLLED_HEIGHT, ..grid(max_columns) })
    }

    /// The layout of each tile.
    #[must_use]
    pub fn layout(&self) -> TileLayout {
        TileLayout::of(self.width - TILE_GAP, self.height - TILE_GAP)
    }
}

/// The smallest font size of the name.
const MIN_TEXT_SIZE: f32 = 11.0;
/// The height of digits and the width of three digits per font size, with some space around them, for bold fonts.
const DIGITS_HEIGHT: f32 = 0.86;
const DIGITS_WIDTH: f32 = 2.15;
/// The share of the width that the digits may take if the sparkline is beside them.
const WIDTH_BESIDE: f32 = 0.62;
/// The share of the height that the digits may take if the sparkline is below them.
const HEIGHT_ABOVE: f32 = 0.76;

impl TileLayout {
    /// The layout with the largest digits for a tile of this size in logical pixels.
    #[must_use]
    pub fn of(width: f32, height: f32) -> Self {
        // In a large tile, the digits grow more than the texts.
        let largest = 14.0 + 0.035 * width.min(height);
        let text_size = (height / 9.0).min(width / 16.0).min(largest).max(MIN_TEXT_SIZE);
        let (margin, edge) = ((text_size * 0.55).max(6.0), text_size * 0.35);
        let chip_height = text_size * 1.5;
        let top = edge + text_size * 1.3;
        let chip_top = height - edge - chip_height;
        let age_top = chip_top - text_size * 1.3;
        let (inner_width, inner_height) = ((width - 2.0 * margin).max(1.0), (age_top - top).max(1.0));
        let beside = (inner_height / DIGITS_HEIGHT).min(inner_width * WIDTH_BESIDE / DIGITS_WIDTH);
        let above = (inner_height * HEIGHT_ABOVE / DIGITS_HEIGHT).min(inner_width / DIGITS_WIDTH);
        let digits_size = beside.max(above);
        let area = |x, y, width, height| Area { x, y, width, height };
        let (digits, sparkline) = if beside >= above {
            let taken = digits_size * DIGITS_WIDTH;
            (
                area(margin, top, taken, inner_height),
                area(margin + taken + margin * 0.5, top, inner_width - taken - margin * 0.5, inner_height),
            )
        } else {
            let taken = digits_size * DIGITS_HEIGHT;
            (
                area(margin, top, inner_width, taken),
                area(margin, top + taken, inner_width, inner_height - taken),
            )
        };
        TileLayout {
            margin,
            text_size,
            name_top: edge,
            digits_size,
            digits,
            sparkline,
            age_top,
            chip_top,
            chip_height,
        }
    }
}

/// A name that is split into its beginning and an end that distinguishes it from similar names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitName {
    /// The beginning. It is shortened where the name does not fit.
    pub start: String,
    /// The end, which is always shown. Empty if the beginning distinguishes the name.
    pub end: String,
}

/// The number of equal characters at the beginning from which two names look alike if their ends are cut off.
const MIN_ALIKE: usize = 6;
/// The maximum number of characters of the end.
const MAX_END: usize = 16;

impl SplitName {
    /// Splits a name before the place where it differs from the names next to it in alphabetical order.
    #[must_use]
    fn of<'a>(name: &str, neighbours: impl Iterator<Item = &'a str>) -> Self {
        let letters: Vec<char> = name.chars().collect();
        let equal = |one: &char, other: &char| one.to_lowercase().eq(other.to_lowercase());
        let alike = neighbours
            .map(|other| {
                letters.iter().zip(other.chars()).take_while(|(one, other)| equal(one, other)).count()
            })
            .max()
            .unwrap_or(0);
        if alike < MIN_ALIKE {
            return SplitName { start: name.to_owned(), end: String::new() };
        }
        // Two equal letters before the difference, and no combining mark without its letter.
        let mut at = alike.min(letters.len()).saturating_sub(2);
        while at > 0 && ('\u{300}'..='\u{36f}').contains(&letters[at]) {
            at -= 1;
        }
        let mut end: String = letters[at..].iter().take(MAX_END).collect();
        if letters.len() - at > MAX_END {
            end.push('…');
        }
        SplitName { start: letters[..at].iter().collect(), end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wards::PlaceFilter;
    use proto_json::Timestamp;
    use proto_json::wards::{Admission, Bed, Ward};

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
            admission: None,
            details: None,
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
                    TileChange::Reordered | TileChange::Hidden => panic!("there are few patients"),
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

    /// Sizes of the overview in windows of 900 x 600, 1440 x 900, 1920 x 1080 and 3840 x 2160.
    const AREAS: [(f32, f32); 4] = [(884.0, 488.0), (1424.0, 788.0), (1904.0, 964.0), (3800.0, 1934.0)];

    #[test]
    fn tiles_fill_the_overview_and_digits_fill_the_tiles() {
        for (width, height) in AREAS {
            for count in [1_usize, 2, 3, 8, 24, 72] {
                let grid = Grid::of(count, width, height);
                let rows = count.div_ceil(grid.columns) as f32;
                let case = format!("{count} tiles in {width} x {height}: {grid:?}");
                assert!((grid.width * grid.columns as f32 - width).abs() < 0.5, "{case}");
                let fills = (grid.height * rows - height).abs() < 0.5;
                assert!(fills || grid.height * rows > height, "{case}");
                // Less than one row and one column are empty.
                assert!(rows as usize * grid.columns < count + grid.columns, "{case}");
                let layout = grid.layout();
                let share = layout.digits_size / grid.height.min(grid.width / 2.0);
                assert!(share > 0.4, "{case}: the digits take {share} of the tile");
                for area in [layout.digits, layout.sparkline] {
                    assert!(
                        area.x >= layout.margin && area.width > 0.0 && area.height > 0.0,
                        "{case}: {area:?}"
                    );
                    assert!(
                        area.x + area.width <= grid.width - TILE_GAP - layout.margin + 0.5,
                        "{case}: {area:?}"
                    );
                    assert!(area.y + area.height <= layout.age_top + 0.5, "{case}: {area:?}");
                }
                assert!(layout.chip_top + layout.chip_height < grid.height - TILE_GAP, "{case}");
            }
        }
    }

    #[test]
    fn digits_of_72_patients_are_12_mm_high_on_a_24_inch_screen() {
        // 1920 pixels are 531 mm wide. A digit of DejaVu Sans Bold has 0.73 of the font size.
        let digits = Grid::of(72, 1904.0, 964.0).layout().digits_size * 0.73 * 531.0 / 1920.0;
        assert!(digits >= 12.0, "{digits} mm");
    }

    #[test]
    fn grid_of_too_many_tiles_is_higher_than_the_overview() {
        let grid = Grid::of(500, 884.0, 488.0);
        assert!(grid.width >= MIN_SIZE.0 && grid.height >= MIN_SIZE.1, "{grid:?}");
        assert!(grid.columns as f32 * grid.width <= 885.0);
        let most = Grid::of(72, 1424.0, 788.0);
        assert!(72_usize.div_ceil(most.columns) as f32 * most.height <= 789.0, "no scrolling: {most:?}");
    }

    #[test]
    fn names_with_the_same_beginning_are_split_where_they_differ() {
        let mut overview = Overview::new(TileOrder::Name);
        let names = [
            "Maximiliana Hohenlohe",
            "Maximiliana Hohenfels",
            "Ben Oak",
            "Ben Oakley-Winterbottom-Smith",
            "Cleo",
        ];
        let patients = names.iter().enumerate().map(|(mrn, name)| patient(mrn as u64, name)).collect();
        overview.replace(patients, |_| None);
        let split = |overview: &Overview, mrn: u64| {
            let name = overview.split_name(Mrn::new(mrn).unwrap());
            (name.start, name.end)
        };
        let parts = |start: &str, end: &str| (start.to_owned(), end.to_owned());
        assert_eq!(split(&overview, 0), parts("Maximiliana Hoh", "enlohe"));
        assert_eq!(split(&overview, 1), parts("Maximiliana Hoh", "enfels"));
        assert_eq!(split(&overview, 3), parts("Ben O", "akley-Winterbott…"));
        assert_eq!(split(&overview, 4), parts("Cleo", ""), "no other name is similar");
        overview.update(patient(1, "Nina"), None);
        assert_eq!(split(&overview, 0), parts("Maximiliana Hohenlohe", ""), "the other patient was renamed");
        overview.update(patient(9, "Maximiliana Hohenlohe"), None);
        assert_eq!(split(&overview, 0), parts("Maximiliana Hohenlohe", ""), "equal names have no difference");
    }

    fn ward(number: u128, name: &str, beds: &[u128]) -> Ward {
        Ward {
            id: id(number),
            name: name.parse().unwrap(),
            version: 1,
            beds: beds.iter().map(|bed| bed_of(*bed)).collect(),
        }
    }

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(number: u128) -> T {
        format!("00000000-0000-4000-8000-{number:012}").parse().unwrap()
    }

    fn bed_of(number: u128) -> Bed {
        Bed { id: id(number), name: format!("Bed {number}").parse().unwrap(), occupant: None }
    }

    fn admitted(mrn: u64, name: &str, to: &Ward, bed: u128) -> PatientSummary {
        let admission = Admission {
            id: id(bed),
            ward: to.id,
            ward_name: to.name.clone(),
            bed: id(bed),
            bed_name: bed_of(bed).name,
            admitted_at: Timestamp::from_millis(0).unwrap(),
        };
        PatientSummary { admission: Some(admission), ..patient(mrn, name) }
    }

    /// Numbers of patients, and names of empty beds.
    fn shown(overview: &Overview) -> Vec<String> {
        let name = |slot: Slot<'_>| match slot {
            Slot::Patient(tile) => tile.patient.mrn.to_string(),
            Slot::Empty(bed) => bed.name.clone(),
        };
        overview.slots().map(name).collect()
    }

    #[test]
    fn chosen_ward_is_shown_by_bed_with_its_empty_beds() {
        let (north, south) = (ward(1, "North", &[11, 12, 13]), ward(2, "South", &[21]));
        let mut overview = Overview::new(TileOrder::Bed);
        let patients = vec![
            admitted(7, "Zoe", &north, 11),
            admitted(8, "Ann", &north, 13),
            admitted(9, "Ben", &south, 21),
            patient(10, "Discharged"),
        ];
        overview.replace(patients, |_| None);
        assert_eq!(overview.len(), 4, "without wards, all patients are shown");
        let choose = |chosen| Places { wards: vec![north.clone(), south.clone()], chosen };
        for (chosen, order, expected) in [
            (PlaceFilter::Automatic, TileOrder::Bed, &["7", "8", "9"][..]),
            (PlaceFilter::Ward(north.id), TileOrder::Bed, &["7", "Bed 12", "8"]),
            (PlaceFilter::Ward(north.id), TileOrder::Name, &["8", "7", "Bed 12"]),
            (PlaceFilter::Ward(north.id), TileOrder::Severity, &["8", "7", "Bed 12"]),
            (PlaceFilter::Ward(north.id), TileOrder::Number, &["7", "8", "Bed 12"]),
            (PlaceFilter::Ward(south.id), TileOrder::Bed, &["9"]),
            (PlaceFilter::NotAdmitted, TileOrder::Bed, &["10"]),
            (PlaceFilter::All, TileOrder::Bed, &["7", "8", "9", "10"]),
            (PlaceFilter::Ward(id(3)), TileOrder::Bed, &["7", "8", "9"]),
        ] {
            overview.set_order(order);
            overview.set_places(choose(chosen));
            assert_eq!(shown(&overview), expected, "{chosen:?} {order:?}");
        }
        overview.set_order(TileOrder::Bed);
        overview.set_places(choose(PlaceFilter::Ward(north.id)));
        let index = |overview: &Overview, mrn| overview.index_of(Mrn::new(mrn).unwrap());
        assert_eq!((index(&overview, 8), index(&overview, 9)), (Some(2), None));
        assert_eq!(overview.update(admitted(9, "Ben", &south, 21), None), TileChange::Hidden);
        assert_eq!(overview.set_severity(Mrn::new(9).unwrap(), Some(Severity::High)), None);
        // A transfer, a discharge and an admission.
        assert_eq!(overview.update(admitted(9, "Ben", &north, 12), None), TileChange::Reordered);
        assert_eq!(shown(&overview), ["7", "9", "8"]);
        assert_eq!(overview.update(patient(7, "Zoe"), None), TileChange::Reordered);
        assert_eq!(shown(&overview), ["Bed 11", "9", "8"]);
        assert_eq!(overview.update(admitted(8, "Anna", &north, 13), None), TileChange::Updated(2));
        assert_eq!(overview.total(), 4);
    }
}
