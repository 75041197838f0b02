//! The dialogs: saving files, settings, quit, about.

use std::fs;

use monitor::window::Theme;
use slint::ComponentHandle;
use slint::platform::Key;

use image::ImageFormat;

use crate::fixture::System;
use crate::fixture::test_data::picture;
use crate::harness::{Screen, image};

#[test]
fn image_is_saved_unchanged_and_a_file_is_replaced_only_after_confirmation() {
    let screen = Screen::start();
    let bytes = picture(64, 3, ImageFormat::Jpeg);
    screen.rate(7, "Ann", 70);
    screen.store(7, &image("scan.jpg", bytes.clone()));
    screen.open("Ann");
    screen.until("the image", |screen| screen.has("Medical image"));
    screen.press("Save the medical image");
    let name = screen.value("File name");
    assert!(name.starts_with("7-image-") && name.ends_with(".jpg"), "{name}");
    let folder = screen.folder();
    screen.fill("Folder", &folder.to_string_lossy());
    screen.fill("File name", "mine.jpg");
    fs::write(folder.join("mine.jpg"), "precious").unwrap();
    screen.press("Save");
    screen.until("the question", |screen| screen.has("Replace the file?"));
    assert_eq!(fs::read(folder.join("mine.jpg")).unwrap(), b"precious");
    screen.press("Enter another name");
    screen.fill("File name", "other.jpg");
    screen.press("Save");
    screen.until("saved", |screen| {
        screen.all().iter().any(|label| label.contains("Saved as ") && label.contains("other.jpg"))
    });
    assert_eq!(fs::read(folder.join("other.jpg")).unwrap(), bytes);

    screen.press("Save the medical image");
    assert_eq!(screen.value("Folder"), folder.to_string_lossy(), "the folder is remembered");
    screen.fill("File name", "mine.jpg");
    screen.press("Save");
    screen.until("the question", |screen| screen.has("Replace the file?"));
    screen.press("Replace");
    screen.until("replaced", |_| fs::read(folder.join("mine.jpg")).unwrap() == bytes);
    let left = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        // The folder also contains the settings file, which may be in the process of being written.
        .filter(|name| name.contains(".jpg.") && name.ends_with(".part"))
        .collect::<Vec<_>>();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ecg_is_saved_as_picture_and_as_signal() {
    let screen = Screen::start();
    let id = screen.strip(7, "Ann", 75.0, 1);
    screen.open("Ann");
    screen.until("the analysis", |screen| screen.value("Latest ECG").contains(" bpm"));
    let folder = screen.folder();
    for (button, name) in [("Save picture: latest ECG", "a.png"), ("Save signal: latest ECG", "a.csv")] {
        screen.press(button);
        assert!(screen.value("File name").starts_with("7-ecg-"));
        screen.fill("Folder", &folder.to_string_lossy());
        screen.fill("File name", name);
        screen.press("Save");
        screen.until(name, |_| folder.join(name).exists());
        screen.until("closed", |screen| !screen.has("File name"));
    }
    let gateway = screen.gateway();
    let (plot, signal) = screen.run(async {
        let plot = gateway.plot(id).await.unwrap().bytes(1 << 24).await.unwrap();
        (plot, gateway.signal(id).await.unwrap().bytes(1 << 24).await.unwrap())
    });
    assert_eq!(fs::read(folder.join("a.csv")).unwrap(), signal);
    let load = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgb8();
    let (plot, saved) = (load(&plot), load(&fs::read(folder.join("a.png")).unwrap()));
    let above = saved.height() - plot.height();
    assert!(above > 30, "there is a caption");
    let below = image::imageops::crop_imm(&saved, 0, above, plot.width(), plot.height()).to_image();
    assert!(below == plot, "the plot is unchanged");
    // The caption is that of this patient and this time: written again, it looks the same.
    let recorded = screen.run(async { gateway.ecg(id).await.unwrap().unwrap() }).at;
    let caption = |name: &str| {
        let title = format!("{name} · MRN 7");
        let detail = format!("Recorded {}", ui::format::date_time_zone(recorded));
        let mut file = std::io::Cursor::new(Vec::new());
        plot.write_to(&mut file, ImageFormat::Png).unwrap();
        load(&ui::Caption { title, detail }.write_above(&file.into_inner()).unwrap())
    };
    assert!(saved == caption("Ann") && saved != caption("Ben"));
}

#[test]
fn saved_files_have_the_extension_of_their_content_and_are_private() {
    let screen = Screen::start();
    screen.strip(7, "Ann", 75.0, 1);
    screen.store(7, &image("scan.jpg", picture(64, 3, ImageFormat::Jpeg)));
    screen.open("Ann");
    screen.until("the analysis", |screen| screen.value("Latest ECG").contains(" bpm"));
    screen.until("the image", |screen| screen.has("Medical image"));
    let folder = screen.folder().join("saved");
    fs::create_dir(&folder).unwrap();
    for (button, typed, name) in [
        ("Save picture: latest ECG", "a.csv", "a.png"),
        ("Save signal: latest ECG", "b", "b.csv"),
        ("Save the medical image", "c.png", "c.jpg"),
    ] {
        screen.press(button);
        screen.fill("Folder", &folder.to_string_lossy());
        screen.fill("File name", typed);
        screen.press("Save");
        screen.until(name, |_| folder.join(name).exists());
        screen.until("closed", |screen| !screen.has("File name"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    // The name of the existing file is asked about, not the typed one.
    screen.press("Save signal: latest ECG");
    screen.fill("Folder", &folder.to_string_lossy());
    screen.fill("File name", "b");
    screen.press("Save");
    screen.until("the question", |screen| screen.has("Replace the file?"));
    assert!(screen.description("Replace the file?").contains("b.csv"));
}

#[test]
fn quit_requires_confirmation() {
    let screen = Screen::start();
    screen.press("Quit");
    assert!(screen.has("Quit the monitor?"));
    screen.press("Cancel");
    assert!(!screen.has("Quit the monitor?") && !screen.app.has_quit());
    screen.control("q");
    assert!(screen.has("Quit the monitor?"));
    screen.key(Key::Return);
    assert!(!screen.has("Quit the monitor?") && !screen.app.has_quit(), "the focus is on Cancel");
    screen.window().window().dispatch_event(slint::platform::WindowEvent::CloseRequested);
    screen.settle();
    assert!(screen.has("Quit the monitor?"), "closing the window asks, too");
    screen.press_in_dialog("Quit");
    assert!(screen.app.has_quit());
}

#[test]
fn settings_are_tested_saved_and_applied() {
    let other = System::standalone();
    let screen = Screen::start();
    screen.rate(1, "Ann", 70);
    screen.until("Ann", |screen| screen.tiles().len() == 1);
    screen.press("Settings");
    screen.fill("Gateway address", "http://127.0.0.1:1");
    screen.press("Test connection");
    let gateway_top = |screen: &Screen| screen.the("Gateway address").absolute_position().y;
    let before = gateway_top(&screen);
    screen.until("it fails", |screen| screen.all().iter().any(|label| label.contains("cannot be reached")));
    assert_eq!(gateway_top(&screen), before, "a message does not move the fields");
    screen.fill("Gateway address", &other.url());
    screen.press("Test connection");
    screen.until("it answers", |screen| screen.has("The gateway answers"));
    screen.press("Dark");
    screen.press("Save");
    screen.until("the other one, empty", |screen| screen.tiles().is_empty());
    assert!(screen.window().global::<Theme>().get_dark());
    let file = screen.folder().join("monitor.json");
    screen.until("the saved settings", |_| {
        fs::read_to_string(&file).is_ok_and(|text| text.contains(&other.url()))
    });
}

#[test]
fn about_states_that_this_is_not_for_clinical_use() {
    let screen = Screen::start();
    screen.press("About");
    assert!(screen.has("About Bedside Monitor"));
    assert!(screen.all().iter().any(|label| label.to_lowercase().contains("not for clinical use")));
}
