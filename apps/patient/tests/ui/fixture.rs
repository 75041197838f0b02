//! The test fixture: the app, its folder, and access to its controls.

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

/// Time limit of each wait.
const LIMIT: Duration = Duration::from_secs(40);
/// Names the test that a child process runs.
const ISOLATED_TEST: &str = "BEDSIDE_ISOLATED_TEST";

/// Runs one test in a process of its own.
pub(crate) fn run_isolated<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) {
    if std::env::var(ISOLATED_TEST).is_ok_and(|test| test == name) {
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
    // The settings of the user who runs the tests must not matter.
    for name in ["GATEWAY", "TOKEN", "TOKEN_FILE", "CA", "NATS", "NATS_CREDS", "SETTINGS", "THEME", "OUTBOX"]
    {
        command.env_remove(format!("BEDSIDE_{name}"));
    }
    let output = command.args(["--exact", name, "--nocapture"]).env(ISOLATED_TEST, name).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "there is no test {name}");
}

/// File dialogs that answer with prepared files and record the requests.
pub(crate) struct FakeDialogs {
    pub(crate) is_available: Cell<bool>,
    pub(crate) files: RefCell<Vec<PathBuf>>,
    pub(crate) requests: RefCell<Vec<OpenRequest>>,
}

impl Default for FakeDialogs {
    fn default() -> Self {
        FakeDialogs { is_available: Cell::new(true), files: RefCell::default(), requests: RefCell::default() }
    }
}

impl FileChooser for FakeDialogs {
    fn is_available(&self) -> Pin<Box<dyn Future<Output = bool>>> {
        let is_available = self.is_available.get();
        Box::pin(async move { is_available })
    }

    fn open(&self, request: OpenRequest) -> Pin<Box<dyn Future<Output = Vec<PathBuf>>>> {
        self.requests.borrow_mut().push(request);
        let files = self.files.borrow().clone();
        Box::pin(async move { files })
    }

    fn save(&self, _: SaveRequest) -> Pin<Box<dyn Future<Output = Option<PathBuf>>>> {
        Box::pin(async { None })
    }
}

/// The app and the folder with its data.
pub(crate) struct Fixture {
    app: Option<App>,
    pub(crate) dialogs: Rc<FakeDialogs>,
    pub(crate) has_quit: Rc<Cell<bool>>,
    folder: TempDir,
    gateway: String,
}

impl Fixture {
    /// Starts the app with this gateway in its settings.
    pub(crate) fn new(gateway: &str) -> Self {
        Fixture::with_args(gateway, Args::default())
    }

    pub(crate) fn with_args(gateway: &str, args: Args) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fixture = Fixture {
            app: None,
            dialogs: Rc::default(),
            has_quit: Rc::default(),
            folder,
            gateway: gateway.to_owned(),
        };
        fixture.start(args);
        fixture
    }

    fn start(&mut self, mut args: Args) {
        args.outbox.get_or_insert(self.folder.path().join("outbox"));
        args.connection.settings.get_or_insert(self.folder.path().join("settings.json"));
        args.connection.gateway.get_or_insert(self.gateway.clone());
        args.window.language.get_or_insert(ui::Language::English);
        let has_quit = Rc::clone(&self.has_quit);
        let app = App::new(&args, self.dialogs.clone(), Box::new(move || has_quit.set(true))).unwrap();
        app.window().window().set_size(slint::PhysicalSize::new(1180, 760));
        app.window().show().unwrap();
        app.window().window().dispatch_event(WindowEvent::WindowActiveChanged(true));
        self.app = Some(app);
    }

    /// Closes the app and starts it again with the same folder.
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

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().expect("the app runs")
    }

    pub(crate) fn window(&self) -> &patient::window::Main {
        self.app().window()
    }

    pub(crate) fn api<T>(&self, read: impl FnOnce(Api<'_>) -> T) -> T {
        read(self.app().window().global::<Api<'_>>())
    }

    /// All elements with this label, in the order of the window. Elements of a dialog come last.
    pub(crate) fn all(&self, label: &str) -> Vec<ElementHandle> {
        ElementHandle::find_by_accessible_label(self.app().window(), label).collect()
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        !self.all(label).is_empty()
    }

    /// Whether an element has a label that starts with this text.
    pub(crate) fn has_start(&self, text: &str) -> bool {
        self.labels().iter().any(|label| label.starts_with(text))
    }

    fn last(&self, label: &str) -> ElementHandle {
        self.all(label).pop().unwrap_or_else(|| panic!("no element {label:?} in {:?}", self.labels()))
    }

    /// The labels of all elements.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.elements().iter().filter_map(|(_, label)| label.clone()).collect()
    }

    /// Role and label of all elements that have a role.
    pub(crate) fn elements(&self) -> Vec<(AccessibleRole, Option<String>)> {
        let role_and_label = |element: &ElementHandle| {
            let label = element.accessible_label().map(String::from).filter(|label| !label.is_empty());
            Some((element.accessible_role()?, label))
        };
        let all = ElementQuery::from_root(self.app().window()).find_all();
        all.iter().filter_map(role_and_label).collect()
    }

    /// The control with this label, rather than a heading with the same text.
    fn control(&self, label: &str) -> ElementHandle {
        let roles = [
            AccessibleRole::Button,
            AccessibleRole::RadioButton,
            AccessibleRole::ListItem,
            AccessibleRole::TextInput,
        ];
        let is_control =
            |element: &ElementHandle| element.accessible_role().is_some_and(|role| roles.contains(&role));
        self.all(label).into_iter().rfind(is_control).unwrap_or_else(|| self.last(label))
    }

    /// Presses the control with this label; in a dialog, if one is open.
    pub(crate) fn press(&self, label: &str) {
        let element = self.control(label);
        assert_ne!(element.accessible_enabled(), Some(false), "{label:?} is disabled");
        element.invoke_accessible_default_action();
    }

    pub(crate) fn is_enabled(&self, label: &str) -> bool {
        self.control(label).accessible_enabled() != Some(false)
    }

    /// Replaces the text of the field with this label.
    pub(crate) fn type_into(&self, label: &str, text: &str) {
        let fields = self.all(label);
        let field = fields.iter().rfind(|field| field.accessible_role() == Some(AccessibleRole::TextInput));
        field.unwrap_or_else(|| panic!("no field {label:?}")).set_accessible_value(text);
    }

    pub(crate) fn value(&self, label: &str) -> String {
        let found = self.all(label).pop();
        found.and_then(|element| element.accessible_value()).unwrap_or_default().into()
    }

    pub(crate) fn description(&self, label: &str) -> String {
        let descriptions = self.all(label).into_iter().filter_map(|element| element.accessible_description());
        descriptions.map(String::from).rfind(|text| !text.is_empty()).unwrap_or_default()
    }

    /// Presses these keys in order, then releases them in reverse order.
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

    /// Waits until `condition` holds.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&Fixture) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let state = || format!("message {:?}, labels {:?}", self.message(), self.labels());
            assert!(start.elapsed() < LIMIT, "timed out waiting for: {what}; {}", state());
            next_turn().await;
        }
    }

    pub(crate) async fn until_message(&self, part: &str) {
        self.until(&format!("the message {part:?}"), |app| app.message().contains(part)).await;
    }

    pub(crate) async fn until_connected(&self) {
        self.until("connected", |app| app.value("Connection").contains("push")).await;
    }

    /// Selects the file type and adds a file by its path.
    pub(crate) fn add(&self, kind: &str, path: &std::path::Path) {
        self.press(kind);
        self.type_into("File path", path.to_str().unwrap());
        self.api(|api| api.invoke_add_path(path.to_str().unwrap().into()));
    }

    /// Adds a file and waits until it has been read.
    pub(crate) async fn select_file(&self, kind: &str, path: &std::path::Path) {
        self.add(kind, path);
        let name = path.file_name().unwrap().to_str().unwrap();
        self.until(&format!("{name} is read"), |app| {
            app.has(name) && !app.description(name).contains("reading")
        })
        .await;
    }

    /// Presses Upload, and Upload again in the dialog.
    pub(crate) async fn upload(&self) {
        self.until("upload is possible", |app| app.is_enabled("Upload")).await;
        self.press("Upload");
        self.until("the confirmation", |app| app.has("Upload this?") && app.is_enabled("Upload")).await;
        self.press("Upload");
    }
}

/// Lets the event loop handle pending events.
pub(crate) async fn next_turn() {
    let (done, is_done) = tokio::sync::oneshot::channel();
    slint::Timer::single_shot(Duration::from_millis(3), move || {
        let _ = done.send(());
    });
    let _ = is_done.await;
}

/// Starts the system in one process. Blocks the event loop meanwhile.
pub(crate) fn system() -> System {
    System::start(Mode::Standalone)
}

/// Sends requests to the gateway with a client of its own.
pub(crate) fn ask<T>(url: &str, request: impl AsyncFnOnce(Gateway) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(request(Gateway::new(&Settings::new(url)).unwrap()))
}
