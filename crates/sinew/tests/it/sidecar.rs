//! Two sealed services, each with the real sidecar, and a control plane in the test: what `sinew proxy` glues together,
//! without a launcher.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use sinew_control::{Applied, Control, ControlOptions, Entry, Routing};
use sinew_spec::application::{Application, Service};
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{Bootstrap, HopAddress, Posture};
use sinew_spec::seal::SealSpec;
use tokio::net::UnixListener;

use crate::seal::{Sealed, as_everyone, command, plain, program};

const PATIENCE: Duration = Duration::from_secs(20);

/// Says who calls it on `/`, over HTTP/1.1, on every address.
const ORDERS: &str = r#"
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"orders " + self.path.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

/// Asks until it is answered well, and prints the answer: the application may still be starting.
const ASK: &str = r#"
import sys, time, urllib.request
end = time.time() + 20
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end="")
        break
    except OSError as error:
        if time.time() > end: raise
        time.sleep(0.02)
"#;

/// Asks once.
const ASK_ONCE: &str = r#"
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end="")
"#;

struct Instance {
    name: InstanceName,
    sealed: Sealed,
    sidecar: Child,
}

impl Instance {
    async fn new(control: &Control, test: &str, service: &str) -> Self {
        let name = InstanceName::new(format!("{service}-1"));
        let hosts = control.hosts(&service.into()).expect("the service is known");
        let spec = SealSpec { hosts: hosts.content, ..plain() };
        let sealed = Sealed::new(&format!("{test}-{service}"), &spec).await;
        let listener = UnixListener::bind(sealed.folder.join("control.sock")).expect("control listener");
        control.enter(vec![Entry {
            service: service.into(),
            instance: name.clone(),
            hop: Some(HopAddress::Unix(sealed.folder.join("hop.sock"))),
            routing: Routing::Out,
            listener,
        }]);
        let sidecar = start(control, &sealed.folder, &name);
        Self { name, sealed, sidecar }
    }

    /// As by a crash; returns when it is gone.
    fn kill_sidecar(&mut self) {
        self.sidecar.kill().expect("kill the sidecar");
        self.sidecar.wait().expect("reap the sidecar");
    }

    async fn end(mut self) {
        self.sealed.shut_down().await;
        // Nobody is left to serve: it ends by itself.
        let pid = self.sidecar.id();
        let ended = tokio::task::spawn_blocking(move || self.sidecar.wait());
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        let status = ended.unwrap_or_else(|_| panic!("the sidecar {pid} outlives its seal")).expect("join");
        assert!(status.expect("wait").success());
    }
}

fn start(control: &Control, folder: &Path, name: &InstanceName) -> Child {
    let bootstrap = Bootstrap {
        posture: Posture::Sidecar,
        instance: name.clone(),
        control: folder.join("control.sock"),
        init: Some(folder.join("init.sock")),
        admin: folder.join("admin.sock"),
        last_good: folder.join("last-good.json"),
        trust: control.trust(name),
        lifeline: false,
        ports: None,
        handover: None,
        succeeds: false,
    };
    let path = folder.join("bootstrap.json");
    fs::write(&path, serde_json::to_vec(&bootstrap).expect("bootstrap as JSON"))
        .expect("write the bootstrap");
    std::process::Command::new(program())
        .arg("proxy")
        .arg("--bootstrap")
        .arg(path)
        .stdin(Stdio::null())
        .stderr(File::create(folder.join("sidecar.log")).expect("log"))
        .spawn()
        .expect("start the sidecar")
}

fn control(test: &str) -> (Control, PathBuf) {
    let state = PathBuf::from(format!("/tmp/sncontrol{}-{test}", std::process::id()));
    let _ = fs::remove_dir_all(&state);
    (open(&state), state)
}

fn open(state: &Path) -> Control {
    let services = ["orders", "web"].map(|name| (name.into(), Service::new(name, vec!["run".into()])));
    let application = Application {
        name: "shop".into(),
        folder: "/shop".into(),
        files: Vec::new(),
        services: services.into(),
        volumes: Default::default(),
        gateway: Default::default(),
    };
    Control::open(ControlOptions::new(application, state.to_owned())).expect("control plane")
}

/// Returns when all proxies serve the present revision.
async fn settled(control: &Control) -> Applied {
    let mut news = control.news();
    let settled = async {
        loop {
            let applied = control.status().applied;
            if applied.applied == applied.subscribed {
                return applied;
            }
            news.changed().await.expect("the control plane lives");
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap_or_else(|_| panic!("{:?}", control.status()))
}

#[test]
fn a_call_goes_through_two_sidecars_and_outlives_one() {
    as_everyone("sidecar::a_call_goes_through_two_sidecars_and_outlives_one", async |_| {
        let (control, state) = control("call");
        let mut orders = Instance::new(&control, "call", "orders").await;
        let web = Instance::new(&control, "call", "web").await;
        orders.sealed.init().await.start(command(&["python3", "-c", ORDERS])).await.expect("start orders");
        control.route(&orders.name, Routing::In).unwrap();
        control.route(&web.name, Routing::In).unwrap();
        assert_eq!(settled(&control).await.applied, 2);
        let ask = ["python3", "-c", ASK, "http://orders:8000/a"];
        assert_eq!(web.sealed.output(&ask).await, "orders /a");

        // While there is no sidecar, whoever calls waits; the new one has its configuration from the file, before the
        // control plane says a word.
        orders.kill_sidecar();
        let (answer, ()) =
            tokio::join!(web.sealed.exec(&["python3", "-c", ASK_ONCE, "http://orders:8000/b"]), async {
                orders.sidecar = start(&control, &orders.sealed.folder, &orders.name)
            });
        assert_eq!(answer, (0, "orders /b".to_owned()));

        // The control plane goes, and comes back: nothing changes for a call.
        let revision = settled(&control).await;
        drop(control);
        assert_eq!(web.sealed.output(&ask).await, "orders /a");
        let control = open(&state);
        control.enter([&orders, &web].map(adopt).into());
        assert_eq!(settled(&control).await, revision);
        assert_eq!(web.sealed.output(&ask).await, "orders /a");

        // Out of routing: the caller is told, not left waiting.
        let revision = control.route(&orders.name, Routing::Out).unwrap();
        assert!(control.wait_applied(revision, PATIENCE).await.is_complete());
        let (code, text) = web.sealed.exec(&["python3", "-c", ASK_ONCE, "http://orders:8000/c"]).await;
        assert_ne!(code, 0);
        assert!(text.contains("503"), "{text}");

        println!("orders' sidecar: {}", memory(orders.sidecar.id()));
        orders.end().await;
        web.end().await;
        drop(control);
        fs::remove_dir_all(state).expect("clean");
    });
}

fn adopt(instance: &Instance) -> Entry {
    let socket = instance.sealed.folder.join("control.sock");
    fs::remove_file(&socket).expect("the old socket");
    Entry {
        service: instance.name.as_str().trim_end_matches("-1").into(),
        instance: instance.name.clone(),
        hop: Some(HopAddress::Unix(instance.sealed.folder.join("hop.sock"))),
        routing: Routing::In,
        listener: UnixListener::bind(socket).expect("control listener"),
    }
}

fn memory(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let wanted = ["Pss:", "Private_Clean:", "Private_Dirty:"];
    text.lines()
        .filter(|line| wanted.iter().any(|word| line.starts_with(word)))
        .collect::<Vec<_>>()
        .join(", ")
}
