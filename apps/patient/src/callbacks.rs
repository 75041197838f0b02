//! Connects the callbacks of the window with the controllers.

use std::cell::RefCell;
use std::rc::Rc;

use slint::{CloseRequestResponse, ComponentHandle as _};

use crate::app::AppController;
use crate::model::FileId;
use crate::window::{Api, Main};

/// Registers a callback that runs with the controller, as long as the controller exists.
macro_rules! on {
    ($api:expr, $controller:expr, $register:ident, |$app:ident $(, $arg:ident)*| $body:expr) => {{
        let controller = Rc::downgrade($controller);
        $api.$register(move |$($arg),*| {
            if let Some(controller) = controller.upgrade() {
                let $app = &mut *controller.borrow_mut();
                $body;
            }
        });
    }};
}

/// Connects all callbacks of the window.
pub(crate) fn connect(window: &Main, controller: &Rc<RefCell<AppController>>) {
    let api = window.global::<Api<'_>>();
    ui::connect_fullscreen!(window, api);
    on!(api, controller, on_mrn_edited, |app, text| {
        app.patient.edit_mrn(&text, app.uploads.gateway());
        app.refresh()
    });
    on!(api, controller, on_name_edited, |app, text| {
        app.patient.edit_name(&text, app.uploads.gateway());
        app.refresh()
    });
    on!(api, controller, on_recorded_edited, |app, text| {
        app.recording.edit_time(&text);
        app.refresh()
    });
    on!(api, controller, on_sample_rate_edited, |app, text| {
        app.recording.edit_sample_rate(&text);
        app.refresh()
    });
    on!(api, controller, on_lead_edited, |app, text| {
        app.recording.edit_lead(&text);
        app.refresh()
    });
    on!(api, controller, on_select_files, |app| app.select_files());
    on!(api, controller, on_add_path, |app, text| {
        app.add_path(&text);
        app.refresh()
    });
    on!(api, controller, on_show_file, |app, id| app.files.show(FileId(id)));
    on!(api, controller, on_remove_file, |app, id| {
        app.files.remove(FileId(id));
        app.refresh()
    });
    on!(api, controller, on_browser_activated, |app, index| app.browser.activate(index));
    on!(api, controller, on_browser_parent, |app| app.browser.open_parent());
    on!(api, controller, on_browser_path_entered, |app, path| app.browser.open_path(&path));
    on!(api, controller, on_ecg_resized, |app, width, height| { app.files.ecg_resized(size(width, height)) });
    on!(api, controller, on_image_resized, |app, width, height| {
        app.files.image_resized(size(width, height))
    });
    on!(api, controller, on_image_zoomed, |app, factor, x, y| {
        app.files.zoom_image(f64::from(factor), (f64::from(x), f64::from(y)))
    });
    on!(api, controller, on_image_panned, |app, x, y| { app.files.pan_image((f64::from(x), f64::from(y))) });
    on!(api, controller, on_image_zoom_reset, |app| app.files.reset_zoom());
    on!(api, controller, on_upload, |app| app.ask_upload());
    on!(api, controller, on_cancel_upload, |app| {
        app.cancel_upload();
        app.refresh()
    });
    on!(api, controller, on_reset, |app| {
        app.ask_reset();
        app.refresh()
    });
    on!(api, controller, on_quit, |app| app.ask_quit());
    on!(api, controller, on_close_message, |app| app.close_message());
    on!(api, controller, on_close_analysis, |app| app.analysis.clear());
    on!(api, controller, on_retry_upload, |app, id| {
        let result = app.uploads.retry(&id);
        app.show_error(result)
    });
    on!(api, controller, on_retry_upload_with_rename, |app, id| {
        let result = app.uploads.retry_with_rename(&id);
        app.show_error(result)
    });
    on!(api, controller, on_discard_upload, |app, id| {
        let result = app.uploads.discard(&id);
        app.show_error(result)
    });
    on!(api, controller, on_accept, |app| app.accept());
    on!(api, controller, on_dismiss, |app| app.dismiss_dialog());
    on!(api, controller, on_open_settings, |app| app.open_settings());
    on!(api, controller, on_open_about, |app| app.open_about());
    on!(api, controller, on_open_outbox, |app| app.open_outbox());
    on!(api, controller, on_open_account, |app| app.open_account());
    on!(api, controller, on_ask_login, |app| app.ask_login());
    on!(api, controller, on_log_in, |app, form| app.account.log_in(app.settings.effective(), &form));
    on!(api, controller, on_log_out, |app| app.log_out());
    on!(api, controller, on_close_login, |app| app.account.close());
    on!(api, controller, on_save_settings, |app, form| app.settings.save(&form));
    on!(api, controller, on_test_settings, |app, form| app.settings.test(&form));
    let controller = Rc::downgrade(controller);
    window.window().on_close_requested(move || match controller.upgrade() {
        Some(controller) => {
            controller.borrow_mut().ask_quit();
            CloseRequestResponse::KeepWindowShown
        }
        None => CloseRequestResponse::HideWindow,
    });
}

/// A size in pixels; negative values count as 0.
fn size(width: i32, height: i32) -> (u32, u32) {
    (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0))
}
