//! From the window to the station: one line for each thing that can be done.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use slint::{CloseRequestResponse, ComponentHandle};

use super::Station;
use crate::patient::Side;
use crate::window::{self, Api, Page, Sheet};

fn side(side: window::Side) -> Side {
    match side {
        window::Side::Latest => Side::Latest,
        window::Side::Chosen => Side::Chosen,
    }
}

/// Runs something on the station, unless it is gone.
fn on(station: &Weak<RefCell<Station>>, act: impl FnOnce(&mut Station)) {
    if let Some(station) = station.upgrade() {
        act(&mut station.borrow_mut());
    }
}

pub(super) fn connect(station: &Rc<RefCell<Station>>) {
    let borrowed = station.borrow();
    let api = borrowed.window.global::<Api>();
    macro_rules! wire {
        ($($callback:ident => |$station:ident $(, $argument:ident)*| $act:expr;)*) => {$({
            let weak = Rc::downgrade(station);
            api.$callback(move |$($argument),*| on(&weak, |$station| $act));
        })*};
    }
    wire! {
        on_deliver => |station| station.deliver();
        on_theme_changed => |station| station.redraw();
        on_wall_resized => |station, width, height| station.resize_wall(width, height);
        on_search_patients => |station, text| station.search_patients(&text);
        on_open_patient => |station, mrn| station.open_named(&mrn);
        on_show_wall => |station| station.close_patient(Page::Wall);
        on_show_alarms => |station| {
            station.close_patient(Page::Alarms);
            station.list_alarms();
        };
        on_acknowledge => |station, mrn| station.acknowledge(&mrn);
        on_acknowledge_all => |station| station.acknowledge_all();
        on_silence => |station, mrn| station.silence(&mrn);
        on_choose_ecg => |station, key| station.choose_ecg(&key);
        on_more_ecgs => |station| station.more_ecgs();
        on_choose_image => |station, key| station.choose_image(&key);
        on_more_images => |station| station.more_images();
        on_set_paper => |station, on| station.set_paper(on);
        on_ecg_resized => |station, of, width, height| station.resize_ecg(side(of), width, height);
        on_ecg_gesture => |station, of, gesture, x, y| station.with_ecg(side(of), |pane| pane.gesture(gesture, x, y));
        on_ecg_zoom => |station, of, steps, x| station.with_ecg(side(of), |pane| pane.zoom(steps, x));
        on_ecg_amplify => |station, of, steps| station.with_ecg(side(of), |pane| pane.amplify(steps));
        on_ecg_fit => |station, of| station.with_ecg(side(of), |pane| pane.fit());
        on_ecg_step => |station, of, pages| station.with_ecg(side(of), |pane| pane.step(pages));
        on_ecg_measure => |station, of, on| station.with_ecg(side(of), |pane| pane.measure(on));
        on_ecg_beats => |station, of, on| station.with_ecg(side(of), |pane| pane.mark_beats(on));
        on_trend_resized => |station, width, height| station.resize_trend(width, height);
        on_trend_pointed => |station, x, on| station.point_trend(on.then_some(x));
        on_set_range => |station, range| station.set_range(range);
        on_edit_limits => |station, mrn| station.edit_limits(&mrn);
        on_save_limits => |station, form| station.save_limits(&form);
        on_usual_limits => |station| station.usual_limits();
        on_save_picture => |station, of| station.offer_ecg(side(of), true);
        on_save_signal => |station, of| station.offer_ecg(side(of), false);
        on_save_image => |station| station.offer_image();
        on_browse => |station| station.browse();
        on_save_file => |station, form, overwrite| station.save_file(&form, overwrite);
        on_open_settings => |station| station.open_settings();
        on_test_settings => |station, form| station.test_settings(&form);
        on_save_settings => |station, form| station.save_settings(&form);
        on_quit => |station| station.quit();
    }
    let weak = borrowed.window.as_weak();
    borrowed.window.window().on_close_requested(move || {
        if let Some(window) = weak.upgrade() {
            window.global::<Api>().set_sheet(Sheet::Quit);
        }
        CloseRequestResponse::KeepWindowShown
    });
}
