//! All patients, those who need somebody first.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use proto_json::{Mrn, PatientSummary, RecordId};
use ui::trace::Sparkline;

use crate::alarms::Severity;

/// What a tile stands for.
#[derive(Debug, Clone)]
pub struct Tile {
    /// What is known of the patient.
    pub patient: PatientSummary,
    /// The small strip, and the ECG it is of.
    pub spark: Option<(RecordId, Option<Sparkline>)>,
    place: Place,
}

/// Where a tile stands: the graver its alarm the earlier, then by name, then by number.
type Place = (Reverse<Option<Severity>>, String, Mrn);

/// What changed in the order of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// The tile there has other content.
    Changed(usize),
    /// A new tile is there.
    Inserted(usize),
    /// A tile has moved, and may have other content.
    Moved {
        /// Where it was.
        from: usize,
        /// Where it is, counted without it.
        to: usize,
    },
}

/// All tiles in order.
#[derive(Debug, Default)]
pub struct Wall {
    tiles: HashMap<Mrn, Tile>,
    order: Vec<Mrn>,
}

impl Wall {
    /// Number of tiles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The tile of a patient.
    #[must_use]
    pub fn get(&self, mrn: Mrn) -> Option<&Tile> {
        self.tiles.get(&mrn)
    }

    /// Tiles in order.
    pub fn iter(&self) -> impl Iterator<Item = &Tile> {
        self.order.iter().filter_map(|mrn| self.tiles.get(mrn))
    }

    /// The patient at a place.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Tile> {
        self.order.get(index).and_then(|mrn| self.tiles.get(mrn))
    }

    /// The place of a patient.
    #[must_use]
    pub fn position(&self, mrn: Mrn) -> Option<usize> {
        let place = &self.tiles.get(&mrn)?.place;
        self.order
            .binary_search_by(|other| self.tiles.get(other).map(|tile| &tile.place).cmp(&Some(place)))
            .ok()
    }

    /// Takes over everything there is. Small strips stay where the ECG is still the latest.
    pub fn replace(&mut self, patients: Vec<PatientSummary>, severity: impl Fn(Mrn) -> Option<Severity>) {
        let mut before = std::mem::take(&mut self.tiles);
        for patient in patients {
            let spark = before.remove(&patient.mrn).and_then(|tile| tile.spark);
            let place = place(&patient, severity(patient.mrn));
            self.tiles.insert(patient.mrn, Tile { patient, spark, place });
        }
        let mut order: Vec<&Tile> = self.tiles.values().collect();
        order.sort_unstable_by(|one, other| one.place.cmp(&other.place));
        self.order = order.into_iter().map(|tile| tile.patient.mrn).collect();
    }

    /// Takes over one patient.
    pub fn update(&mut self, patient: PatientSummary, severity: Option<Severity>) -> Edit {
        let mrn = patient.mrn;
        let place = place(&patient, severity);
        let Some(from) = self.position(mrn) else {
            self.tiles.insert(mrn, Tile { patient, spark: None, place });
            return Edit::Inserted(self.insert(mrn));
        };
        let Some(tile) = self.tiles.get_mut(&mrn) else { return Edit::Changed(from) };
        tile.patient = patient;
        self.move_to(mrn, from, place)
    }

    /// The alarm of a patient has changed.
    pub fn set_severity(&mut self, mrn: Mrn, severity: Option<Severity>) -> Option<Edit> {
        let from = self.position(mrn)?;
        let place = place(&self.tiles.get(&mrn)?.patient, severity);
        Some(self.move_to(mrn, from, place))
    }

    /// The small strip of an ECG is here; it is shown only if the ECG is still the patient's latest.
    pub fn set_spark(&mut self, mrn: Mrn, ecg: RecordId, spark: Option<Sparkline>) -> Option<Edit> {
        let tile = self.tiles.get_mut(&mrn)?;
        if tile.patient.latest_ecg.as_ref()?.id != ecg {
            return None;
        }
        tile.spark = Some((ecg, spark));
        self.position(mrn).map(Edit::Changed)
    }

    fn move_to(&mut self, mrn: Mrn, from: usize, place: Place) -> Edit {
        let Some(tile) = self.tiles.get_mut(&mrn) else { return Edit::Changed(from) };
        if tile.place == place {
            return Edit::Changed(from);
        }
        self.order.remove(from);
        tile.place = place;
        let to = self.insert(mrn);
        if to == from { Edit::Changed(from) } else { Edit::Moved { from, to } }
    }

    fn insert(&mut self, mrn: Mrn) -> usize {
        let place = self.tiles.get(&mrn).map(|tile| &tile.place);
        let at = self.order.partition_point(|other| self.tiles.get(other).map(|tile| &tile.place) < place);
        self.order.insert(at, mrn);
        at
    }

    /// Numbers of all patients.
    #[must_use]
    pub fn numbers(&self) -> HashSet<Mrn> {
        self.tiles.keys().copied().collect()
    }
}

fn place(patient: &PatientSummary, severity: Option<Severity>) -> Place {
    // Patients without a name stand behind those with one.
    let name = patient.name.as_ref().map_or_else(|| "\u{10ffff}".to_owned(), |name| name.to_lowercase());
    (Reverse(severity), name, patient.mrn)
}

/// How tiles of one size fill a room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Tiles in a row.
    pub columns: usize,
    /// Logical pixels of one, with its margin.
    pub width: f32,
    /// Logical pixels of one, with its margin.
    pub height: f32,
}

/// Sizes of a tile: it shrinks until all fit, but no further than can be read.
const LEAST: (f32, f32) = (150.0, 84.0);
const MOST: (f32, f32) = (420.0, 230.0);
/// How wide a tile becomes to fill a row.
const WIDEST: f32 = 560.0;
/// Width over height that suits name, digits and strip.
const ASPECT: f32 = 1.9;

impl Grid {
    /// The grid that shows `count` tiles as large as can be in a room of logical pixels; where even the smallest do not
    /// fit, the room is scrolled.
    #[must_use]
    pub fn of(count: usize, width: f32, height: f32) -> Self {
        let count = count.max(1);
        let grid = |columns: usize| {
            let rows = count.div_ceil(columns) as f32;
            let tile_width = (width / columns as f32).clamp(LEAST.0, MOST.0);
            let tile_height = (height / rows).clamp(LEAST.1, MOST.1).min(tile_width / 1.4);
            Grid { columns, width: tile_width, height: tile_height.max(LEAST.1) }
        };
        let fits = |grid: &Grid| grid.height * count.div_ceil(grid.columns) as f32 <= height + 0.5;
        let most = ((width / LEAST.0) as usize).max(1);
        let size = |grid: &Grid| (grid.width / ASPECT).min(grid.height);
        (1..=most.min(count))
            .map(grid)
            .filter(fits)
            .max_by(|one, other| size(one).total_cmp(&size(other)))
            // Nothing is left over at the right, unless tiles would become mere bands.
            .map(|grid| Grid { width: (width / grid.columns as f32).clamp(grid.width, WIDEST), ..grid })
            .unwrap_or_else(|| Grid { width: width / most as f32, ..grid(most) })
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

    fn order(wall: &Wall) -> Vec<u64> {
        wall.iter().map(|tile| tile.patient.mrn.get()).collect()
    }

    fn wall() -> Wall {
        let mut wall = Wall::default();
        wall.replace(vec![patient(4, ""), patient(3, "Cleo"), patient(1, "ann"), patient(2, "Ben")], |_| {
            None
        });
        wall
    }

    #[test]
    fn tiles_stand_by_severity_then_name_and_the_nameless_last() {
        let mut wall = wall();
        assert_eq!(order(&wall), [1, 2, 3, 4]);
        let cleo = Mrn::new(3).unwrap();
        assert_eq!(wall.set_severity(cleo, Some(Severity::High)), Some(Edit::Moved { from: 2, to: 0 }));
        let ben = Mrn::new(2).unwrap();
        assert_eq!(wall.set_severity(ben, Some(Severity::Technical)), Some(Edit::Moved { from: 2, to: 1 }));
        assert_eq!(order(&wall), [3, 2, 1, 4]);
        assert_eq!(wall.set_severity(cleo, Some(Severity::High)), Some(Edit::Changed(0)));
        assert_eq!(wall.set_severity(cleo, None), Some(Edit::Moved { from: 0, to: 2 }));
        assert_eq!(order(&wall), [2, 1, 3, 4]);
    }

    /// A model that only ever hears of edits must show the same as the wall.
    #[test]
    fn edits_lead_a_copy_to_the_same_order() {
        let mut wall = Wall::default();
        let mut copy: Vec<u64> = Vec::new();
        let mut state = 12345_u64;
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mrn = (state >> 33) % 40;
            let severity = [None, Some(Severity::Technical), Some(Severity::Medium), Some(Severity::High)]
                [(state >> 50) as usize % 4];
            let named = patient(mrn, &format!("{}", (state >> 40) % 7));
            match wall.update(named, severity) {
                Edit::Changed(at) => assert_eq!(copy[at], mrn),
                Edit::Inserted(at) => copy.insert(at, mrn),
                Edit::Moved { from, to } => {
                    assert_eq!(copy.remove(from), mrn);
                    copy.insert(to, mrn);
                }
            }
            assert_eq!(order(&wall), copy);
        }
        assert_eq!(wall.len(), 40);
    }

    #[test]
    fn a_strip_of_an_older_ecg_is_not_shown() {
        let mut wall = wall();
        let (ann, id) = (Mrn::new(1).unwrap(), proto_json::UploadId::generate().record("ecg", 0));
        assert_eq!(wall.set_spark(ann, id, None), None);
        assert!(wall.get(ann).unwrap().spark.is_none());
    }

    #[test]
    fn sixty_four_tiles_fit_on_a_large_screen_and_one_does_not_fill_it() {
        let grid = Grid::of(64, 1900.0, 980.0);
        assert!(grid.columns as f32 * grid.width <= 1901.0);
        assert!(64_usize.div_ceil(grid.columns) as f32 * grid.height <= 981.0, "{grid:?}");
        assert!(grid.width >= 200.0, "{grid:?}");
        let one = Grid::of(1, 1900.0, 980.0);
        assert!(one.width <= WIDEST && one.height <= MOST.1);
        let eight = Grid::of(8, 1400.0, 800.0);
        assert_eq!(eight.columns as f32 * eight.width, 1400.0, "{eight:?}");
        let many = Grid::of(500, 900.0, 600.0);
        assert!(many.width >= LEAST.0 && many.height >= LEAST.1);
        assert!(many.columns as f32 * many.width <= 901.0);
    }
}
