//! Connects the callbacks of the window to the controllers.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use slint::{CloseRequestResponse, ComponentHandle};

use super::app::AppController;
use crate::patient::Side;
use crate::window::{self, Account, Api, Care, Correct, Dialog, Live, Page};

fn side(side: window::Side) -> Side {
    match side {
        window::Side::Latest => Side::Latest,
        window::Side::Selected => Side::Selected,
    }
}

/// Calls the controller, unless it has been dropped.
fn with(app: &Weak<RefCell<AppController>>, act: impl FnOnce(&mut AppController)) {
    if let Some(app) = app.upgrade() {
        act(&mut app.borrow_mut());
    }
}

/// Registers all callbacks.
pub(super) fn register(app: &Rc<RefCell<AppController>>) {
    let window = app.borrow().window();
    let api = window.global::<Api>();
    macro_rules! callbacks {
        ($($register:ident => |$app:ident $(, $argument:ident)*| $act:expr;)*) => {$({
            let weak = Rc::downgrade(app);
            api.$register(move |$($argument),*| with(&weak, |$app| $act));
        })*};
    }
    callbacks! {
        on_process_events => |app| app.process_events();
        on_theme_changed => |app| app.redraw();
        on_overview_resized => |app, width, height| app.overview.resize(&app.context, width, height);
        on_set_tile_order => |app, index| app.overview.set_order(&mut app.context, index);
        on_search_patients => |app, text| app.overview.search(&app.context, &text);
        on_open_patient => |app, mrn| if let Ok(mrn) = mrn.parse() { app.open_patient(mrn) };
        on_show_overview => |app| app.show_page(Page::Overview);
        on_show_alarms => |app| app.show_page(Page::Alarms);
        on_acknowledge => |app, mrn| if let Ok(mrn) = mrn.parse() { app.acknowledge(mrn) };
        on_acknowledge_all => |app| app.acknowledge_all();
        on_acknowledge_alarm => |app, id| app.acknowledge_alarm(&id);
        on_pause_sound_of => |app, mrn| if let Ok(mrn) = mrn.parse() { app.pause_sound_of(mrn) };
        on_pause_alarm => |app, id| app.pause_alarm(&id);
        on_pause_sound => |app| app.pause_sound();
        on_filter_alarms => |app, state, severity| app.alarms.set_filter(&app.context, state, severity);
        on_more_history => |app| app.alarms.load_more(&app.context);
        on_set_volume => |app, step| app.alarms.set_volume(&mut app.context, step);
        on_test_sound => |app, priority| app.alarms.test_sound(&app.context, priority);
        on_select_ecg => |app, key| app.patient.select_ecg(&mut app.context, &key);
        on_more_ecgs => |app| app.patient.more_ecgs(&mut app.context);
        on_select_image => |app, key| app.patient.select_image(&mut app.context, &key);
        on_more_images => |app| app.patient.more_images(&mut app.context);
        on_toggle_freeze => |app| app.patient.toggle_freeze(&mut app.context);
        on_set_paper => |app, on| app.patient.set_paper(&mut app.context, on);
        on_ecg_resized => |app, of, width, height| {
            app.patient.resize_plot(&app.context, side(of), width, height);
        };
        on_ecg_gesture => |app, of, gesture, x, y| {
            app.patient.change_plot(&app.context, side(of), |plot| plot.gesture(gesture, x, y));
        };
        on_ecg_zoom => |app, of, steps, x| {
            app.patient.change_plot(&app.context, side(of), |plot| plot.zoom(steps, x));
        };
        on_ecg_amplify => |app, of, steps| {
            app.patient.change_plot(&app.context, side(of), |plot| plot.amplify(steps));
        };
        on_ecg_fit => |app, of| app.patient.change_plot(&app.context, side(of), |plot| plot.fit());
        on_ecg_step => |app, of, pages| {
            app.patient.change_plot(&app.context, side(of), |plot| plot.step(pages));
        };
        on_ecg_measure => |app, of, on| {
            app.patient.change_plot(&app.context, side(of), |plot| plot.measure(on));
        };
        on_ecg_beats => |app, of, on| {
            app.patient.change_plot(&app.context, side(of), |plot| plot.mark_beats(on));
        };
        on_trend_resized => |app, width, height| app.patient.resize_trend(&app.context, width, height);
        on_trend_pointed => |app, x, on| app.patient.point_at_trend(&app.context, on.then_some(x));
        on_set_range => |app, range| app.patient.set_range(&mut app.context, range);
        on_edit_limits => |app, mrn| app.limits.open(&app.context, &mrn);
        on_select_limit_scope => |app, key| app.limits.select_scope(&app.context, &key);
        on_save_limits => |app, form| app.limits.save(&mut app.context, &form);
        on_reset_limits => |app| app.limits.reset(&app.context);
        on_save_picture => |app, of| if let Some(offer) = app.patient.ecg_to_save(&app.context, side(of), true) {
            app.dialogs.offer(&app.context, offer);
        };
        on_save_signal => |app, of| if let Some(offer) = app.patient.ecg_to_save(&app.context, side(of), false) {
            app.dialogs.offer(&app.context, offer);
        };
        on_save_image => |app| if let Some(offer) = app.patient.image_to_save() {
            app.dialogs.offer(&app.context, offer);
        };
        on_browse => |app| app.dialogs.browse(&app.context);
        on_save_file => |app, form, overwrite| app.dialogs.save(&app.context, &form, overwrite);
        on_open_settings => |app| app.dialogs.open_settings(&app.context);
        on_test_settings => |app, form| app.dialogs.test_settings(&app.context, &form);
        on_save_settings => |app, form| app.save_settings(&form);
        on_quit => |app| app.quit();
    }
    let live = window.global::<Live>();
    macro_rules! live_callbacks {
        ($($register:ident => |$app:ident $(, $argument:ident)*| $act:expr;)*) => {$({
            let weak = Rc::downgrade(app);
            live.$register(move |$($argument),*| with(&weak, |$app| $act));
        })*};
    }
    live_callbacks! {
        on_scrolled => |app, first, rows| app.live.scrolled(&app.context, first, rows);
        on_select_tab => |app, tab| app.live.select_tab(&mut app.context, tab);
        on_traces_resized => |app, width, height| app.live.resize(&app.context, width, height);
        on_set_speed => |app, index| app.live.set_speed(&mut app.context, index);
        on_set_trace_count => |app, count| app.live.set_trace_count(&mut app.context, count);
        on_toggle_freeze => |app| app.live.toggle_freeze(&app.context);
        on_measure => |app, from_x, from_y, to_x, to_y| {
            app.live.measure(&app.context, (from_x, from_y), (to_x, to_y));
        };
        on_clear_measurement => |app| app.context.window.global::<Live>().set_reading("".into());
        on_keep_strip => |app, seconds| app.keep_strip(seconds);
    }
    let care = window.global::<Care>();
    macro_rules! care_callbacks {
        ($($register:ident => |$app:ident $(, $argument:ident)*| $act:expr;)*) => {$({
            let weak = Rc::downgrade(app);
            care.$register(move |$($argument),*| with(&weak, |$app| $act));
        })*};
    }
    care_callbacks! {
        on_select_ward => |app, key| app.select_ward(&key);
        on_open_admission => |app, mrn| if let Ok(mrn) = mrn.parse() {
            app.wards.open_admission(&app.context, mrn);
        };
        on_open_bed => |app, key| app.wards.open_bed(&app.context, &key);
        on_search_beds => |app, text| app.wards.search_beds(&app.context, &text);
        on_select_bed => |app, key| app.wards.select_bed(&app.context, &key);
        on_select_patient => |app, mrn| if let Ok(mrn) = mrn.parse() {
            app.wards.select_patient(&app.context, mrn);
        };
        on_admit => |app| app.wards.admit(&app.context);
        on_discharge => |app| app.wards.discharge(&app.context);
        on_open_details => |app, mrn| if let Ok(mrn) = mrn.parse() {
            app.wards.open_details(&app.context, mrn);
        };
        on_save_details => |app, form| app.wards.save_details(&app.context, &form);
    }
    let account = window.global::<Account>();
    macro_rules! account_callbacks {
        ($($register:ident => |$app:ident $(, $argument:ident)*| $act:expr;)*) => {$({
            let weak = Rc::downgrade(app);
            account.$register(move |$($argument),*| with(&weak, |$app| $act));
        })*};
    }
    account_callbacks! {
        on_used => |app| app.account.used(&app.context);
        on_log_in => |app, form| app.account.log_in(&app.context, &form);
        on_log_out => |app| app.log_out();
        on_lock => |app| app.account.lock(&app.context);
        on_open_login => |app| app.account.open_login(&app.context);
        on_access => |app, form| app.account.access(&app.context, &form);
    }
    let correct = window.global::<Correct>();
    macro_rules! correct_callbacks {
        ($($register:ident => |$app:ident $(, $argument:ident)*| $act:expr;)*) => {$({
            let weak = Rc::downgrade(app);
            correct.$register(move |$($argument),*| with(&weak, |$app| $act));
        })*};
    }
    correct_callbacks! {
        on_open => |app, mrn| if let Ok(mrn) = mrn.parse() {
            app.corrections.open(&app.context, mrn);
        };
        on_select_kind => |app, kind| app.corrections.select_kind(&app.context, kind);
        on_select_item => |app, key| app.corrections.select_item(&app.context, &key);
        on_search_patients => |app, text| app.corrections.search(&app.context, &text);
        on_select_patient => |app, key| app.corrections.select_patient(&app.context, &key);
        on_check => |app| app.corrections.check(&app.context);
        on_confirm => |app| app.corrections.confirm(&app.context);
    }
    ui::connect_fullscreen!(&window, api);
    let weak = window.as_weak();
    window.window().on_close_requested(move || {
        if let Some(window) = weak.upgrade() {
            window.global::<Api>().set_dialog(Dialog::Quit);
        }
        CloseRequestResponse::KeepWindowShown
    });
}
