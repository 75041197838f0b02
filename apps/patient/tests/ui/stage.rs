//! What a test plays on: the app, its folder, and the hands that press its buttons.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::{Gateway, Settings};
use i_slint_backend_testing::{AccessibleRole, ElementHandle, ElementQuery};
use patient::window::Api;
use patient::{App, Args};
use slint::platform::WindowEvent;
use slint::{ComponentHandle, SharedString};
use tempfile::TempDir;
use testkit::{Mode, System};
use ui::{FileChooser, OpenRequest, SaveRequest};

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(40);
const PLAYING: &str = "BEDSIDE_PLAYING";

/// Plays one test in a process of its own.
pub(crate) fn play<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) {
    if std::env::var(PLAYING).is_ok_and(|playing| playing == name) {
        i_slint_backend_testing::init_integration_test_with_system_time();
        slint::spawn_local(async move {
            test().await;
            slint::quit_event_loop().unwrap();
        })
        .unwrap();
        slint::run_event_loop_until_quit().unwrap();
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    // What whoever runs the tests has set up for himself is not what is tested.
    for name in ["GATEWAY", "TOKEN", "TOKEN_FILE", "CA", "NATS", "NATS_CREDS", "SETTINGS", "THEME", "OUTBOX"]
    {
        command.env_remove(format!("BEDSIDE_{name}"));
    }
    let output = command.args(["--exact", name, "--nocapture"]).env(PLAYING, name).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "there is no test {name}");
}

/// A chooser of files that has been told what to choose, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Chooser {
    pub(crate) choice: RefCell<Vec<PathBuf>>,
    pub(crate) asked: RefCell<Vec<OpenRequest>>,
}

impl FileChooser for Chooser {
    fn open(&self, request: OpenRequest) -> Pin<Box<dyn Future<Output = Vec<PathBuf>>>> {
        self.asked.borrow_mut().push(request);
        let choice = self.choice.borrow().clone();
        Box::pin(async move { choice })
    }

    fn save(&self, _: SaveRequest) -> Pin<Box<dyn Future<Output = Option<PathBuf>>>> {
        Box::pin(async { None })
    }
}

/// A folder for everything, and the app on it.
pub(crate) struct Stage {
    app: Option<App>,
    pub(crate) chooser: Rc<Chooser>,
    pub(crate) has_quit: Rc<Cell<bool>>,
    folder: TempDir,
    gateway: String,
}

impl Stage {
    /// The app, with a gateway at this address in its settings.
    pub(crate) fn with(gateway: &str) -> Self {
        Stage::with_args(gateway, Args::default())
    }

    pub(crate) fn with_args(gateway: &str, args: Args) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage {
            app: None,
            chooser: Rc::default(),
            has_quit: Rc::default(),
            folder,
            gateway: gateway.to_owned(),
        };
        stage.start(args);
        stage
    }

    fn start(&mut self, mut args: Args) {
        args.outbox.get_or_insert(self.folder.path().join("outbox"));
        args.connection.settings.get_or_insert(self.folder.path().join("settings.json"));
        args.connection.gateway.get_or_insert(self.gateway.clone());
        let has_quit = Rc::clone(&self.has_quit);
        let app = App::new(&args, self.chooser.clone(), Box::new(move || has_quit.set(true))).unwrap();
        app.window().window().set_size(slint::PhysicalSize::new(1180, 760));
        app.window().show().unwrap();
        app.window().window().dispatch_event(WindowEvent::WindowActiveChanged(true));
        self.app = Some(app);
    }

    /// Ends the app and starts it anew on the same folder.
    pub(crate) fn restart(&mut self, args: Args) {
        self.close();
        self.start(args);
    }

    pub(crate) fn close(&mut self) {
        if let Some(app) = self.app.take() {
            app.window().hide().unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn app(&self) -> &App {
        self.app.as_ref().expect("the app runs")
    }

    pub(crate) fn window(&self) -> &patient::window::Main {
        self.app().window()
    }

    pub(crate) fn api<T>(&self, look: impl FnOnce(Api<'_>) -> T) -> T {
        look(self.app().window().global::<Api<'_>>())
    }

    /// Everything with this label, in the order of the window: what is in a dialog comes last.
    pub(crate) fn all(&self, label: &str) -> Vec<ElementHandle> {
        ElementHandle::find_by_accessible_label(self.app().window(), label).collect()
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        !self.all(label).is_empty()
    }

    fn last(&self, label: &str) -> ElementHandle {
        self.all(label)
            .pop()
            .unwrap_or_else(|| panic!("there is no {label:?}; there are {:?}", self.labels()))
    }

    /// Every label there is.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.elements().iter().filter_map(|(_, label)| label.clone()).collect()
    }

    /// Role and label of everything that has a role.
    pub(crate) fn elements(&self) -> Vec<(AccessibleRole, Option<String>)> {
        let seen = |element: &ElementHandle| {
            let label = element.accessible_label().map(String::from).filter(|label| !label.is_empty());
            Some((element.accessible_role()?, label))
        };
        let all = ElementQuery::from_root(self.app().window()).find_all();
        all.iter().filter_map(seen).collect()
    }

    /// What can be used and has this label, rather than a heading of the same words.
    fn pressable(&self, label: &str) -> ElementHandle {
        let roles = [
            AccessibleRole::Button,
            AccessibleRole::RadioButton,
            AccessibleRole::ListItem,
            AccessibleRole::TextInput,
        ];
        let usable =
            |element: &ElementHandle| element.accessible_role().is_some_and(|role| roles.contains(&role));
        self.all(label).into_iter().rfind(usable).unwrap_or_else(|| self.last(label))
    }

    /// Presses what has this label; in a dialog, if one is open.
    pub(crate) fn press(&self, label: &str) {
        let element = self.pressable(label);
        assert_ne!(element.accessible_enabled(), Some(false), "{label:?} is disabled");
        element.invoke_accessible_default_action();
    }

    pub(crate) fn is_enabled(&self, label: &str) -> bool {
        self.pressable(label).accessible_enabled() != Some(false)
    }

    /// Types into the field with this label.
    pub(crate) fn type_into(&self, label: &str, text: &str) {
        let fields = self.all(label);
        let field = fields.iter().rfind(|field| field.accessible_role() == Some(AccessibleRole::TextInput));
        field.unwrap_or_else(|| panic!("there is no field {label:?}")).set_accessible_value(text);
    }

    pub(crate) fn value(&self, label: &str) -> String {
        let found = self.all(label).pop();
        found.and_then(|element| element.accessible_value()).unwrap_or_default().into()
    }

    pub(crate) fn description(&self, label: &str) -> String {
        let descriptions = self.all(label).into_iter().filter_map(|element| element.accessible_description());
        descriptions.map(String::from).rfind(|text| !text.is_empty()).unwrap_or_default()
    }

    /// Keys as they come from a keyboard, one after the other.
    pub(crate) fn keys(&self, keys: &[SharedString]) {
        let window = self.app().window().window();
        for key in keys {
            window.dispatch_event(WindowEvent::KeyPressed { text: key.clone() });
        }
        for key in keys.iter().rev() {
            window.dispatch_event(WindowEvent::KeyReleased { text: key.clone() });
        }
    }

    pub(crate) fn message(&self) -> String {
        self.api(|api| api.get_message().into())
    }

    /// Goes on once it is so.
    pub(crate) async fn until(&self, what: &str, mut there: impl FnMut(&Stage) -> bool) {
        let begun = Instant::now();
        while !there(self) {
            let told = || format!("message {:?}, labels {:?}", self.message(), self.labels());
            assert!(begun.elapsed() < LIMIT, "never {what}; {}", told());
            turn().await;
        }
    }

    pub(crate) async fn until_message(&self, part: &str) {
        self.until(&format!("the message {part:?}"), |stage| stage.message().contains(part)).await;
    }

    pub(crate) async fn until_connected(&self) {
        self.until("connected", |stage| stage.value("Connection").contains("push")).await;
    }

    /// Chooses the type and adds a file by its path.
    pub(crate) fn add(&self, kind: &str, path: &std::path::Path) {
        self.press(kind);
        self.type_into("Path of a file", path.to_str().unwrap());
        self.api(|api| api.invoke_add_path(path.to_str().unwrap().into()));
    }

    /// Adds a file and waits until it has been read.
    pub(crate) async fn stage_file(&self, kind: &str, path: &std::path::Path) {
        self.add(kind, path);
        let name = path.file_name().unwrap().to_str().unwrap();
        self.until(&format!("{name} is read"), |stage| {
            stage.has(name) && !stage.description(name).contains("reading")
        })
        .await;
    }

    /// Presses Upload, and Upload again in the dialog.
    pub(crate) async fn upload(&self) {
        self.until("upload is possible", |stage| stage.is_enabled("Upload")).await;
        self.press("Upload");
        self.until("the question", |stage| stage.has("Upload this?") && stage.is_enabled("Upload")).await;
        self.press("Upload");
    }
}

/// Lets the event loop turn.
pub(crate) async fn turn() {
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    slint::Timer::single_shot(Duration::from_millis(3), move || {
        let _ = go_on.send(());
    });
    let _ = may_go_on.await;
}

/// A Bedside in one process. Starting it takes a moment in which the event loop stands still.
pub(crate) fn system() -> System {
    System::start(Mode::Standalone)
}

/// Asks the gateway from outside of the app.
pub(crate) fn ask<T>(url: &str, question: impl AsyncFnOnce(Gateway) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(question(Gateway::new(&Settings::new(url)).unwrap()))
}
